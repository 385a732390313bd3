"""
Where a question's words stand in and around a quotation. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from outlast.crew.extractive.questions import QueryTerm
from outlast.crew.extractive.vocabulary import normalized_stems
from outlast.crew.library.search import Hit
from outlast.crew.library.sentences import TextSpan, blocks, sentences

# How many sentences before and after a quotation are near it.
CONTEXT_SENTENCES = 2
# How many words apart two words of a question stand close together.
CLOSE_WORDS = 3


class MatchLocation(Enum):
    """
    A place, with what a word there counts: for likeness, which chooses among
    quotations, and for coverage, which decides whether there is an answer at all.
    """

    TOPIC = 1.1, 1.0  # half or more of a heading or the title
    SENTENCE = 1.0, 1.0  # the one of the quotation that holds most of the question
    HEADING = 0.75, 0.9
    QUOTATION = 0.7, 0.9
    NEAR = 0.5, 0.75
    TITLE = 0.45, 0.7
    PASSAGE = 0.25, 0.5
    UNMATCHED = 0.0, 0.0

    @property
    def likeness(self) -> float:
        return self.value[0]

    @property
    def coverage(self) -> float:
        return self.value[1]


@dataclass(frozen=True)
class SentenceRange:
    """
    A quotation: the sentences *first* to *last*, of which *core* answers best.
    """

    first: int
    last: int
    core: int


@dataclass(frozen=True)
class PassageContext:
    """
    A passage's sentences and the stems of the words in and above them.
    """

    spans: tuple[TextSpan, ...]
    stems: tuple[tuple[str, ...], ...]
    heading: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]  # the words of each heading and the title
    title: tuple[str, ...]
    ends: frozenset[int]  # where blocks end: no quotation goes on past one

    @classmethod
    def of(cls, hit: Hit) -> "PassageContext":
        """
        Take the passage of *hit* apart.
        """
        spans = tuple(sentences(hit.text))
        return cls(
            spans=spans,
            stems=tuple(
                tuple(normalized_stems(hit.text[start:end])) for start, end in spans
            ),
            heading=tuple(normalized_stems(hit.heading)),
            topics=tuple(map(_words, (*hit.heading.split(" > "), hit.title))),
            title=tuple(normalized_stems(f"{hit.document} {hit.title}")),
            ends=frozenset(block.end for block in blocks(hit.text)),
        )

    def runs(self, most: int, longest: int) -> Iterator[tuple[int, int]]:
        """
        The first and last sentence of every run of up to *most* of one block.

        More than one sentence has at most *longest* characters.
        """
        for first, span in enumerate(self.spans):
            yield first, first
            for last in range(first + 1, min(first + most, len(self.spans))):
                ended = self.spans[last - 1].end in self.ends
                if ended or self.spans[last].end - span.start > longest:
                    break
                yield first, last

    def holding(self, term: QueryTerm) -> frozenset[int]:
        found = (at for at, stems in enumerate(self.stems) if positions(stems, term))
        return frozenset(found)

    def place(
        self, term: QueryTerm, held: frozenset[int], run: SentenceRange
    ) -> MatchLocation:
        """
        The best place of *term* for *run*, when the sentences *held* hold it.
        """
        if self.is_about(term):
            return MatchLocation.TOPIC
        if run.core in held:
            return MatchLocation.SENTENCE
        if positions(self.heading, term):
            return MatchLocation.HEADING
        if any(run.first <= at <= run.last for at in held):
            return MatchLocation.QUOTATION
        if any(
            run.first - CONTEXT_SENTENCES <= at <= run.last + CONTEXT_SENTENCES
            for at in held
        ):
            return MatchLocation.NEAR
        if positions(self.title, term):
            return MatchLocation.TITLE
        return MatchLocation.PASSAGE if held else MatchLocation.UNMATCHED

    def is_about(self, term: QueryTerm) -> bool:
        """
        Whether *term* is half or more of what a heading or the title says.
        """
        size = 2 * len(term.stems[0])
        return any(
            size * len(positions(t, term)) >= max(len(t), 1) for t in self.topics
        )

    def closeness(self, terms: Sequence[QueryTerm], at: int) -> float:
        """
        The share of neighbours in the question that are close in the sentence *at*.
        """
        found = [positions(self.stems[at], term) for term in terms]
        pairs = list(pairwise(found))
        close = sum(
            any(abs(a - b) <= CLOSE_WORDS for a in one for b in other)
            for one, other in pairs
        )
        return close / len(pairs) if pairs else 0.0


def _words(heading: str) -> tuple[str, ...]:
    return tuple(root for root in normalized_stems(heading) if not root.isdigit())


def positions(stems: Sequence[str], term: QueryTerm) -> list[int]:
    return [
        at
        for phrase in term.stems
        for at, each in enumerate(stems)
        if each == phrase[0] and tuple(stems[at : at + len(phrase)]) == phrase
    ]
