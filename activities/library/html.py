"""
HTML: the text of its blocks, without scripts and navigation.

A block is one line of a passage: inline tags add no space, white space is collapsed.
libxml2 keeps 16 bits for an element's line, so past line 65,535 lines are counted by
the newlines of the text alone and may be a little low.
"""

import re

from lxml import etree

from outlast.crew.library.passages import (
    Outline,
    Parsed,
    UnreadableDocumentError,
    collapse_whitespace,
)

_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_LAST_KNOWN_LINE = 65_535
_TERM_LEVEL = 10  # of a <dt>, below every <h6>; nested lists go deeper

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_TAGS = (
    "address article aside blockquote body br caption center dd details div dl dt"
    " fieldset figcaption figure form header hr html legend li main ol option p pre"
    " section summary table tbody td tfoot th thead title tr ul"
)
_SKIPPED_TAGS = (
    "button canvas footer head iframe math nav noscript object script select style svg"
    " template textarea"
)
_NAVIGATION_CLASSES = (
    "breadcrumb breadcrumbs footer menu nav navbar navfooter navheader navigation"
    " sidebar toc"
)
_BLOCKS = frozenset(_BLOCK_TAGS.split()) | set(_HEADINGS)
_SKIPPED = frozenset(_SKIPPED_TAGS.split())
_NAVIGATION = frozenset(_NAVIGATION_CLASSES.split())
# A table with one of these in a row lays out a page: its cells are no row of data.
_LAYOUT = ("table", "pre", "ul", "ol", "dl", *_HEADINGS)


def parse_html(name: str, text: str) -> Parsed:
    """
    Parse HTML; *name* is the title of a page that has none.
    """
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    root = etree.fromstring(text.encode(), parser)
    if any(each.type_name == "ERR_RESOURCE_LIMIT" for each in parser.error_log):
        raise UnreadableDocumentError("nests its tags too deeply")
    outline = _Page().read(root) if root is not None else Outline()
    if root is None or outline.empty:
        raise UnreadableDocumentError("holds no text")
    title = collapse_whitespace(
        root.findtext("head/title") or root.findtext(".//h1") or ""
    )
    return outline.finish(title or name)


def _is_skipped(element: etree._Element) -> bool:
    if element.tag in _SKIPPED or element.get("role") == "navigation":
        return True
    names = element.get("class")
    return names is not None and not _NAVIGATION.isdisjoint(names.split())


class _Page:
    """
    One walk over a page, from its first tag to its last.
    """

    def __init__(self) -> None:
        self.outline = Outline()
        self.parts: list[str] = []  # of the block under way
        self.blank = True  # the block under way has no words yet
        self.line = 1  # where the words of the block under way start
        self.at = 1  # where the walk stands
        self.cells: list[str] | None = None  # of the row under way
        self.terms = _TERM_LEVEL  # deeper with every <dl>

    def read(self, root: etree._Element) -> Outline:
        """
        Walk over the page without recursion: some pages nest thousands of tags.
        """
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped = False
        for event, element in walk:
            if event == "end":
                self.end(element, skipped)
                skipped = False
            elif skipped := _is_skipped(element):
                walk.skip_subtree()  # its end is the next event
            else:
                self.start(element)
        self.separate()
        return self.outline

    def start(self, element: etree._Element) -> None:
        tag = element.tag
        if (element.sourceline or _LAST_KNOWN_LINE) < _LAST_KNOWN_LINE:
            self.at = element.sourceline
        if tag in _BLOCKS:
            self.separate()
        if tag == "tr" and next(element.iter(*_LAYOUT), None) is None:
            self.cells = []
        self.terms += tag == "dl"
        self.add_text(element.text)

    def end(self, element: etree._Element, skipped: bool) -> None:
        if element.tag in _BLOCKS and not skipped:
            self.finish(element.tag)
        self.add_text(element.tail)

    def add_text(self, text: str | None) -> None:
        if not text:
            return
        words = text.lstrip()
        if self.blank and words and not self.cells:
            self.line = self.at + text.count("\n", 0, len(text) - len(words))
        self.blank = self.blank and not words
        self.parts.append(text)
        self.at += text.count("\n")

    def finish(self, tag: str) -> None:
        """
        Put the block that ends with *tag* where it belongs.
        """
        if tag in _HEADINGS:
            self.head(_HEADINGS[tag])
        elif tag == "dt":
            self.head(self.terms)
        elif tag == "pre":
            self.add_code()
        elif tag in ("td", "th") and self.cells is not None:
            self.cells.append(self.take())
        elif tag == "tr" and self.cells is not None:
            self.add_row(self.cells)
        else:
            self.separate()
        if tag == "dl":
            self.outline.leave(self.terms)
            self.terms -= 1

    def separate(self) -> None:
        """
        End the block under way; inside a row it is only a space.
        """
        if self.cells is not None:
            self.parts.append(" ")
        elif words := self.take():
            self.outline.add(self.line, words)

    def head(self, level: int) -> None:
        words = self.take()
        if not words:
            return
        outer, above = (self.outline.above or [(0, "")])[-1]
        if outer == level >= _TERM_LEVEL and not self.outline.has_text:
            words = f"{above}, {words}"  # two terms share what is said of them
        self.outline.enter(level, words)

    def add_row(self, cells: list[str]) -> None:
        self.cells = None
        if row := "\t".join(filter(None, cells)):
            self.outline.add(self.line, row)

    def add_code(self) -> None:
        code = "".join(self.parts)
        first = self.line
        if self.take():
            text = _BLANK_LINES.sub("", code).rstrip()
            self.outline.add(first, text, wrapped=True)

    def take(self) -> str:
        words = collapse_whitespace("".join(self.parts))
        self.parts, self.blank = [], True
        return words
