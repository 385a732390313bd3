"""
Find the sentences that answer a question, or that none does. Pure.

A quotation is one to four sentences in a row, judged by the share of the question's
weight that it holds: a word in the quotation itself counts in full, one in the heading,
the title or the sentences around it counts less. Under ENOUGH, nothing is an answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outlast.crew.extractive.answer_form import answer_form_score
from outlast.crew.extractive.match_context import (
    MatchLocation,
    PassageContext,
    SentenceRange,
)
from outlast.crew.extractive.questions import ParsedQuestion, QueryTerm
from outlast.crew.extractive.vocabulary import normalized_stems
from outlast.crew.library.search import Hit
from outlast.crew.library.sentences import TextSpan

# The share of the question's weight that the best quotation must have with its context.
# Higher refuses more questions that have an answer, lower finds an answer to more that
# have none. Of the 115 questions it was chosen on, all 78 with an answer had at least
# 0.7, and all but one of the 37 without had at most 0.65.
ENOUGH = 0.68

# What a name or identifier weighs that a passage lacks: it is about something else.
HEAVY = 1.6

# What the place of a passage in the search counts beside the words of the quotation.
RANK = 0.5
# What it counts that neighbours in the question are close together in the quotation.
CLOSENESS = 0.12
# What each further sentence costs: the shortest quotation that answers is the best.
LENGTHENING = 0.03
MOST_SENTENCES = 4
LONGEST = 400  # characters of a quotation, if it has more than one sentence

CITATIONS = 3
# A further citation must score this share of the best one: of another document, and
# of one that is cited already.
WORTH = 0.7
WORTH_AGAIN = 0.9


@dataclass(frozen=True)
class ExtractedQuote:
    """
    A quotation: whole sentences of a document, word for word, from *line* on.
    """

    document: str
    line: int
    quote: str
    title: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """
    What the documents say to a question; without *answered* they do not say it.
    """

    answered: bool
    coverage: float
    findings: tuple[ExtractedQuote, ...]
    missing: tuple[str, ...]  # terms that the best passage does not hold


@dataclass(frozen=True)
class WeightedTerm:
    """
    A term of the question, with its weight and whether the library knows it at all.
    """

    term: QueryTerm
    weight: float
    known: bool


@dataclass(frozen=True)
class Candidate:
    """
    A quotation that was judged.
    """

    hit: Hit
    span: TextSpan
    coverage: float
    score: float
    missing: tuple[WeightedTerm, ...]

    @property
    def text(self) -> str:
        return self.hit.text[self.span.start : self.span.end]


def extract(
    question: ParsedQuestion, terms: Sequence[WeightedTerm], hits: Sequence[Hit]
) -> Evidence:
    """
    Choose what answers *question* from *hits*, best first.
    """
    judged = [each for hit in hits for each in _scored(question, terms, hit, hits[0])]
    judged.sort(key=lambda each: -each.score)
    if not judged:
        return Evidence(False, 0.0, (), tuple(each.term.text for each in terms))
    top = judged[0]
    answered = top.coverage >= ENOUGH and not any(map(_is_decisive, top.missing))
    chosen = _chosen(judged) if answered else []
    missing = tuple(each.term.text for each in top.missing)
    return Evidence(answered, top.coverage, tuple(map(_extracted, chosen)), missing)


def _is_decisive(missing: WeightedTerm) -> bool:
    """
    Tell a name or identifier that no document has: nothing is said about it.
    """
    return missing.term.strict and not missing.known


def _scored(
    question: ParsedQuestion, terms: Sequence[WeightedTerm], hit: Hit, best: Hit
) -> Iterator[Candidate]:
    """
    Judge every run of sentences of *hit*; *best* is the first hit.
    """
    context = PassageContext.of(hit)
    held = [context.holding(each.term) for each in terms]
    rank = RANK * hit.score / (best.score or 1.0)
    for first, last in context.runs(MOST_SENTENCES, LONGEST):
        core = max(range(first, last + 1), key=lambda at: _weight(terms, held, at))
        run = SentenceRange(first, last, core)
        places = [
            context.place(each.term, at, run)
            for each, at in zip(terms, held, strict=True)
        ]
        span = TextSpan(context.spans[first].start, context.spans[last].end)
        form = answer_form_score(
            question, context, run, hit.text[span.start : span.end]
        )
        near = CLOSENESS * context.closeness(question.terms, core)
        longer = LENGTHENING * (last - first)
        score = _likeness(terms, places) + rank + form + near - longer
        missing = (e for e, p in zip(terms, places, strict=True) if not p.coverage)
        yield Candidate(hit, span, _coverage(terms, places), score, tuple(missing))


def _weight(
    terms: Sequence[WeightedTerm], held: Sequence[frozenset[int]], at: int
) -> float:
    pairs = zip(terms, held, strict=True)
    return sum(each.weight for each, sentences in pairs if at in sentences)


def _likeness(terms: Sequence[WeightedTerm], places: Sequence[MatchLocation]) -> float:
    pairs = list(zip(terms, places, strict=True))
    total = sum(each.weight for each in terms) or 1.0
    return sum(each.weight * place.likeness for each, place in pairs) / total


def _coverage(terms: Sequence[WeightedTerm], places: Sequence[MatchLocation]) -> float:
    """
    The share of the question's weight; a name weighs more when it is away.
    """
    held = total = 0.0
    for each, place in zip(terms, places, strict=True):
        away = each.term.strict and not place.coverage
        held += each.weight * place.coverage
        total += each.weight * (HEAVY if away else 1.0)
    return held / total if total else 0.0


def _chosen(judged: Sequence[Candidate]) -> list[Candidate]:
    """
    The best candidate, then the best of other documents, then what else the same ones
    say nearly as well: a second source is worth more than a second line.
    """
    chosen: list[Candidate] = []
    for worth, again in ((WORTH, False), (WORTH_AGAIN, True)):
        for each in judged:
            if len(chosen) == CITATIONS or each.score < worth * judged[0].score:
                break
            known = any(each.hit.document == other.hit.document for other in chosen)
            if known is again and not any(_alike(each, other) for other in chosen):
                chosen.append(each)
    return sorted(chosen, key=lambda each: -each.score)


def _alike(one: Candidate, other: Candidate) -> bool:
    if one.hit.passage_id == other.hit.passage_id:
        overlap = min(one.span.end, other.span.end) - max(
            one.span.start, other.span.start
        )
        if overlap > 0:
            return True
    first, second = set(normalized_stems(one.text)), set(normalized_stems(other.text))
    return len(first & second) > 0.8 * min(len(first), len(second))


def _extracted(each: Candidate) -> ExtractedQuote:
    line = each.hit.passage.line_of(each.span.start)
    return ExtractedQuote(
        each.hit.document, line, each.text, each.hit.title, each.score
    )
