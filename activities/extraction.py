"""
Find the sentences that answer a question, or that none does. Pure.

A sentence is judged by the share of the question's weight that it holds: a word in the
sentence itself counts in full, one in its heading, its title or the sentences around it
counts less. Under ENOUGH, the documents do not answer.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from activities.questions import Question, Term, roots
from outlast.store.search import Hit
from outlast.store.sentences import Span, sentences

# The share of the question's weight that the best sentence must have with its context.
# Higher refuses more questions that have an answer, lower finds an answer to more that
# have none. Chosen with benchmarks/corpus.py.
ENOUGH = 0.6

# What a word counts by where it stands.
SENTENCE, HEADING, NEAR, TITLE, PASSAGE = 1.0, 0.9, 0.75, 0.7, 0.5
# How many sentences before and after are near.
AROUND = 2

# A quotation, in characters: shorter says nothing by itself, longer is a page.
SHORTEST, LONGEST = 20, 400
CITATIONS = 3
# A further citation must score this share of the best one.
WORTH = 0.8

_NUMERAL = (
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|"
    r"hundred|thousand|million|half|once|twice|daily|weekly|monthly|yearly|hourly|nightly|"
    r"annually|quarterly|unlimited|immediately|never|always|every|forever|infinite)\b"
)
_DATE = (
    r"\d{4}|\d{1,2}:\d\d|\b(?:after|before|during|until|when|whenever|while|once|as soon|"
    r"mondays?|tuesdays?|wednesdays?|thursdays?|fridays?|saturdays?|sundays?|january|"
    r"february|march|april|june|july|august|september|october|november|december)\b"
)
_EVIDENCE = {
    "quantity": re.compile(_NUMERAL, re.IGNORECASE),
    "date": re.compile(_DATE, re.IGNORECASE),
    "person": re.compile(
        r"(?<=[a-z,] )[A-Z][a-z]+|\b(?:user|owner|manager|team|officer)s?\b"
    ),
    "reason": re.compile(
        r"\b(?:because|since|due to|caused?|reasons?|so that|therefore|as a result)\b",
        re.IGNORECASE,
    ),
}
# What a sentence gains that holds the kind of fact asked for, or loses by lacking it.
GAIN = 0.12


@dataclass(frozen=True)
class Finding:
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
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]  # terms that the best passage does not hold


@dataclass(frozen=True)
class Candidate:
    """
    A sentence with its context, judged.
    """

    hit: Hit
    span: Span
    coverage: float
    score: float
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.hit.text[self.span.start : self.span.end]


Weights = Mapping[Term, float]


def extract(question: Question, weights: Weights, hits: Sequence[Hit]) -> Evidence:
    """
    Choose what answers *question* from *hits*, best first.
    """
    best = max((hit.score for hit in hits), default=0.0)
    judged = [each for hit in hits for each in judge(question, weights, hit, best)]
    judged.sort(key=lambda each: -each.score)
    if not judged:
        return Evidence(False, 0.0, (), tuple(term.text for term in weights))
    top = judged[0]
    answered = top.coverage >= ENOUGH and not _lacks_what_is_strict(top, weights)
    chosen = _chosen(judged) if answered else []
    findings = tuple(_finding(each) for each in chosen)
    return Evidence(answered, top.coverage, findings, top.missing)


def judge(
    question: Question, weights: Weights, hit: Hit, best: float
) -> list[Candidate]:
    """
    Judge each sentence of *hit*; *best* is the best search score of all hits.
    """
    context = Context.of(hit)
    found = []
    for at, span in enumerate(context.spans):
        text = hit.text[span.start : span.end]
        counts = {term: context.counts(term, at) for term in weights}
        coverage = _share(counts, weights)
        missing = tuple(term.text for term, count in counts.items() if not count)
        score = coverage + _fitness(question, text) + 0.2 * hit.score / (best or 1.0)
        found.append(Candidate(hit, span, coverage, score, missing))
    return found


@dataclass(frozen=True)
class Context:
    """
    A passage's sentences as stems, and those of what stands above them.
    """

    spans: tuple[Span, ...]
    stems: tuple[tuple[str, ...], ...]
    heading: tuple[str, ...]
    title: tuple[str, ...]

    @classmethod
    def of(cls, hit: Hit) -> "Context":
        """
        Take the passage of *hit* apart.
        """
        spans = tuple(sentences(hit.text))
        stems = tuple(tuple(roots(hit.text[start:end])) for start, end in spans)
        title = roots(f"{hit.document} {hit.title}")
        return cls(spans, stems, tuple(roots(hit.heading)), tuple(title))

    def counts(self, term: Term, at: int) -> float:
        """
        What *term* counts for the sentence *at*: by the best place that holds it.
        """
        if _holds(self.stems[at], term):
            return SENTENCE
        if _holds(self.heading, term):
            return HEADING
        near = self.stems[max(0, at - AROUND) : at + AROUND + 1]
        if any(_holds(each, term) for each in near):
            return NEAR
        if _holds(self.title, term):
            return TITLE
        return PASSAGE if any(_holds(each, term) for each in self.stems) else 0.0


def _holds(stems: Sequence[str], term: Term) -> bool:
    return any(_contains(stems, phrase) for phrase in term.stems)


def _contains(stems: Sequence[str], phrase: tuple[str, ...]) -> bool:
    if len(phrase) == 1:
        return phrase[0] in stems
    starts = (at for at, each in enumerate(stems) if each == phrase[0])
    return any(tuple(stems[at : at + len(phrase)]) == phrase for at in starts)


def _share(counts: Mapping[Term, float], weights: Weights) -> float:
    total = sum(weights.values())
    held = sum(weights[term] * count for term, count in counts.items())
    return held / total if total else 0.0


def _lacks_what_is_strict(top: Candidate, weights: Weights) -> bool:
    return any(term.strict and term.text in top.missing for term in weights)


def _fitness(question: Question, text: str) -> float:
    """
    What a sentence gains or loses by its form, whatever it is about.
    """
    length = len(text)
    gain = 0.0
    for kind in question.kinds:
        gain += GAIN if _EVIDENCE[kind].search(text) else -GAIN
    if text.endswith((":", "?")) or length < SHORTEST:
        gain -= 0.3
    elif length > LONGEST:
        gain -= 0.2
    return gain


def _chosen(judged: Sequence[Candidate]) -> list[Candidate]:
    """
    The best candidates, without those that say it again or much worse.
    """
    chosen: list[Candidate] = []
    for each in judged:
        if len(chosen) == CITATIONS or each.score < WORTH * judged[0].score:
            break
        if not any(_alike(each, other) for other in chosen):
            chosen.append(each)
    return chosen


def _alike(one: Candidate, other: Candidate) -> bool:
    first, second = set(roots(one.text)), set(roots(other.text))
    return len(first & second) > 0.8 * min(len(first), len(second))


def _finding(each: Candidate) -> Finding:
    line = each.hit.passage.line_of(each.span.start)
    return Finding(each.hit.document, line, each.text, each.hit.title, each.score)
