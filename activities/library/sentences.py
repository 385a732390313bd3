"""
Where sentences begin and end in a text, as exact offsets.

A sentence ends at its punctuation, at an empty line, before a list item, and before
and after a table's row. A line that merely wraps does not end one.
`text[span.start:span.end]` is always the sentence, word for word.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class TextSpan(NamedTuple):
    """
    A stretch of a text, without the white space around it.
    """

    start: int
    end: int


# A row: cells between "|" or tabs; also a fence and a heading of Markdown.
_ROW = re.compile(r"\||```|~~~|#{1,6} |[^\n]*\S\t+\S")
# A line that starts anew: an item of a list, or "Label: value".
_ITEM = re.compile(
    r"(?:[-*+•>]|\(?\d{1,3}[.)]|\(?[a-z]\))[ \t]|[A-Z][\w-]*(?: [\w-]+){0,3}:[ \t]+\S"
)
# A short line that only introduces what follows.
_LABEL = re.compile(r"[^\n]{1,60}:$")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_`]*(?=\s)|[。！？]+")
_NEXT = re.compile(r"\s*[\"'“‘(\[*_`]*([^\W_])?")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘*_`]*\Z")
_LONGEST_WORD = 40  # characters before a stop that may belong to its short form
_SHORT_FORMS = ("cf", "dr", "e.g", "eg", "i.e", "ie", "mr", "mrs", "ms", "prof", "vs")
_SHORT_BEFORE_NUMBERS = ("approx", "art", "ch", "eq", "fig", "figs", "no", "p", "sec")


def sentences(text: str) -> list[TextSpan]:
    return [span for block in blocks(text) for span in _sentences_of(text, block)]


def blocks(text: str) -> list[TextSpan]:
    """
    Split *text* where no sentence can go on: at empty lines, items and rows.
    """
    found: list[TextSpan] = []
    goes_on = False
    for line in _lines(text):
        words = text[line.start : line.end]
        starts = not goes_on or _ITEM.match(words) or _ROW.match(words)
        if words and starts:
            found.append(line)
        elif words:
            found[-1] = TextSpan(found[-1].start, line.end)
        goes_on = bool(words) and not (
            _ROW.match(words) or (starts and _LABEL.match(words))
        )
    return found


def _lines(text: str) -> Iterator[TextSpan]:
    start = 0
    for line in text.split("\n"):
        yield trim(text, start, start + len(line))
        start += len(line) + 1


def _sentences_of(text: str, block: TextSpan) -> Iterator[TextSpan]:
    start = block.start
    for stop in _SENTENCE_END.finditer(text, block.start, block.end):
        if _ends(text, block, stop):
            yield trim(text, start, stop.end())
            start = stop.end()
    rest = trim(text, start, block.end)
    if rest.start < rest.end:
        yield rest


def _ends(text: str, block: TextSpan, stop: re.Match[str]) -> bool:
    """
    Tell a sentence's end from the dot of a short form, an initial or an item.
    """
    after = _NEXT.match(text, stop.end(), block.end)
    following = (after and after.group(1)) or ""
    if following.islower():
        return False
    if not stop.group().startswith("."):
        return True
    before = text[max(block.start, stop.start() - _LONGEST_WORD) : stop.start()]
    found = _LAST_WORD.search(before)
    word = found.group() if found else ""
    if word.lower() in _SHORT_BEFORE_NUMBERS:
        return not following.isdigit()
    initial = len(word) == 1 and word.isupper()
    numbering = word.isdigit() and stop.start() - len(word) == block.start
    return not (initial or numbering or word.lower() in _SHORT_FORMS)


def trim(text: str, start: int, end: int) -> TextSpan:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return TextSpan(start, end)
