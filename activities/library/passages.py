"""
Documents as passages: what every parser makes, and how it is cut.

A passage is about a paragraph or a short section, carries the headings above it, and
never ends inside a sentence.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from outlast.contracts.errors import OutlastError
from outlast.crew.library.sentences import TextSpan, blocks, sentences

# A shorter passage takes in what follows, so that a sentence keeps its context.
SHORT_PASSAGE = 400
# A longer one would match questions with words that have nothing to do with each other.
LONG_PASSAGE = 1200
# Items of this length, in characters, stay with what introduces them up to LONG.
ITEM_CHARS = 160
# What is longer without a full stop is no sentence and is cut at a space.
LONGEST_SENTENCE = 4000


class UnreadableDocumentError(OutlastError):
    """
    A file whose text cannot be read; its reason continues "It ...": "is encrypted".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Passage:
    """
    A stretch of a document, and the document's line of each of its own lines.
    """

    line: int
    heading: str
    text: str
    lines: Sequence[int] = ()

    def line_of(self, offset: int) -> int:
        above = self.text.count("\n", 0, offset)
        return self.lines[above] if self.lines else self.line + above

    def holds(self, quote: str, line: int) -> bool:
        """
        Whether the passage has *quote*, word for word, from *line* of the document on.
        """
        at = self.text.find(quote)
        while at != -1 and self.line_of(at) != line:
            at = self.text.find(quote, at + 1)
        return at != -1


@dataclass(frozen=True)
class Parsed:
    """
    A document: its title and its passages, in order.
    """

    title: str
    passages: list[Passage]


@dataclass
class Section:
    """
    The text under one heading; *lines* as in Passage.
    """

    heading: str
    text: str
    lines: Sequence[int]

    def passages(self) -> Iterator[Passage]:
        for span in split_passages(self.text):
            text = self.text[span.start : span.end]
            first = self.text.count("\n", 0, span.start)
            lines = self.lines[first : first + text.count("\n") + 1]
            run_on = lines[-1] - lines[0] == len(lines) - 1
            yield Passage(lines[0], self.heading, text, () if run_on else lines)


@dataclass
class Outline:
    """
    The headings above the place that a parser has reached, and the sections so far.
    """

    above: list[tuple[int, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    @property
    def has_text(self) -> bool:
        return bool(self._parts)

    @property
    def empty(self) -> bool:
        return not (self.above or self.sections or self._parts)

    def enter(self, level: int, heading: str) -> None:
        """
        Go on under *heading*, which ends all headings of its level and below.
        """
        self.leave(level)
        self.above.append((level, heading))

    def leave(self, level: int) -> None:
        self._close()
        while self.above and self.above[-1][0] >= level:
            self.above.pop()

    def add(self, line: int, text: str, wrapped: bool = False) -> None:
        """
        Add a paragraph that starts at *line*; *wrapped* ones have a line for each.
        """
        if self._parts:
            self._lines.append(line)
        breaks = text.count("\n") + 1
        self._lines += range(line, line + breaks) if wrapped else [line] * breaks
        self._parts.append(text)

    def finish(self, title: str) -> Parsed:
        self._close()
        return parsed(title, self.sections)

    def _close(self) -> None:
        if self._parts:
            text = "\n\n".join(self._parts)
            self.sections.append(Section(self.path(), text, self._lines))
            self._parts, self._lines = [], []

    def path(self) -> str:
        return " > ".join(heading for _, heading in self.above)


def collapse_whitespace(text: str) -> str:
    return " ".join(text.split())


def parsed(title: str, sections: Iterable[Section]) -> Parsed:
    return Parsed(title, [part for each in sections for part in each.passages()])


def split_passages(text: str) -> list[TextSpan]:
    """
    Cut *text* at the ends of its paragraphs, or of sentences where one is too long.
    """
    found: list[TextSpan] = []
    for piece in _pieces(text):
        if found and _belongs(found[-1], piece):
            found[-1] = TextSpan(found[-1].start, piece.end)
        else:
            found.append(piece)
    return found


def _belongs(last: TextSpan, piece: TextSpan) -> bool:
    small = (
        last.end - last.start < SHORT_PASSAGE or piece.end - piece.start < ITEM_CHARS
    )
    return small and piece.end - last.start <= LONG_PASSAGE


def _pieces(text: str) -> Iterator[TextSpan]:
    for block in blocks(text):
        if block.end - block.start <= LONG_PASSAGE:
            yield block
        else:
            inner = sentences(text[block.start : block.end])
            for span in inner:
                whole = TextSpan(block.start + span.start, block.start + span.end)
                yield from _bounded(text, whole)


def _bounded(text: str, span: TextSpan) -> Iterator[TextSpan]:
    start, end = span
    while end - start > LONGEST_SENTENCE:
        space = text.rfind(" ", start + 1, start + LONGEST_SENTENCE)
        stop = space if space > start else start + LONGEST_SENTENCE
        yield TextSpan(start, stop)
        start = stop
    yield TextSpan(start, end)
