"""
Plain text and Markdown: passages are stretches of the file, character by character.
"""

import re
from collections.abc import Callable, Iterator

from outlast.crew.library.passages import Outline, Parsed, Section, parsed

_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_HASHES = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_INLINE_MARKUP = re.compile(r"[*`]+|!?\[([^\]]*)\]\([^)]*\)")
_NUMBERED = re.compile(r"\d+(?:\.\d+)*\.?\s+[^\W\d_][^.!?;]*$")
_FRONT_TITLE = re.compile(r"\A---\n(?:.*\n)*?title:[ \t]*[\"']?(.+?)[\"']?[ \t]*\n")

# The longest line, in characters, that may be a heading of plain text.
LONGEST_HEADING = 80

# Where a heading stands: its level, its words, its first line and the line after it.
Heading = tuple[int, str, int, int]
Finder = Callable[[list[str]], Iterator[Heading]]


def parse_markdown(name: str, text: str) -> Parsed:
    """
    Parse Markdown; *name* is the title of a file without a heading.
    """
    lines = text.split("\n")
    front = _FRONT_TITLE.match(text[:2000])
    headings = list(_markdown_headings(lines))
    title = front.group(1) if front else _topmost(headings, name)
    return parsed(title, _sections(lines, headings))


def parse_text(name: str, text: str) -> Parsed:
    """
    Parse plain text; *name* is the title of a file without a heading.
    """
    lines = text.split("\n")
    headings = list(_text_headings(lines))
    return parsed(_topmost(headings, name), _sections(lines, headings))


def _topmost(headings: list[Heading], name: str) -> str:
    return min(headings, key=lambda found: found[0])[1] if headings else name


def _sections(lines: list[str], headings: list[Heading]) -> Iterator[Section]:
    outline = Outline()
    ends = [first for _, _, first, _ in headings] + [len(lines)]
    yield _section("", lines, 0, ends[0])
    for (level, words, _, start), end in zip(headings, ends[1:], strict=True):
        outline.enter(level, words)
        yield _section(outline.path(), lines, start, end)


def _section(heading: str, lines: list[str], start: int, end: int) -> Section:
    text = "\n".join(lines[start:end])
    return Section(heading, text, range(start + 1, end + 1))


def _markdown_headings(lines: list[str]) -> Iterator[Heading]:
    fence = ""
    for at, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark.group(1)
        elif not fence and (found := _HASHES.match(line)):
            yield len(found.group(1)), _plain(found.group(2)), at, at + 1
        elif not fence and (level := _underlined(lines, at)):
            yield level, _plain(line.strip()), at, at + 2


def _text_headings(lines: list[str]) -> Iterator[Heading]:
    for at, line in enumerate(lines):
        words = line.strip()
        if level := _underlined(lines, at):
            yield level, words, at, at + 2
        elif words and len(words) <= LONGEST_HEADING and _is_separate(lines, at):
            if words.isupper() and len(words) > 3:
                yield 1, words, at, at + 1
            elif _NUMBERED.match(words):
                yield 2 + words.split()[0].strip(".").count("."), words, at, at + 1


def _underlined(lines: list[str], at: int) -> int:
    """
    The level of the one-line paragraph at *at* if it is underlined, else 0.
    """
    words = lines[at].strip()
    below = lines[at + 1] if at + 1 < len(lines) else ""
    mark = _UNDERLINE.match(below)
    first = at == 0 or not lines[at - 1].strip()
    if not (mark and first and words[:1].isalnum() and len(below.strip()) > 1):
        return 0
    return 1 if "=" in below else 2


def _is_separate(lines: list[str], at: int) -> bool:
    above = lines[at - 1].strip() if at else ""
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return not above and not below


def _plain(heading: str) -> str:
    return _INLINE_MARKUP.sub(lambda found: found.group(1) or "", heading).strip()
