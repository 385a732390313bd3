"""
PDF and Word: what their libraries extract, as passages.

These files come from many programs, and their libraries raise many kinds of errors;
`library.parsing` turns all of them into one.
"""

import io
import logging
import zipfile
from itertools import count

import docx
from docx.document import Document
from docx.table import Table
from docx.text.paragraph import Paragraph
from pypdf import PdfReader

from outlast.crew.library.passages import (
    Outline,
    Parsed,
    Section,
    UnreadableDocumentError,
    parsed,
)

# What a Word file may unpack to; a "zip bomb" would fill the memory.
LARGEST_UNPACKED_BYTES = 200 * 1024 * 1024

# pypdf warns of every flaw that it repairs.
logging.getLogger("pypdf").setLevel(logging.ERROR)


def parse_pdf(name: str, data: bytes) -> Parsed:
    """
    Parse a PDF; a passage's line is counted on its page, which is its heading.
    """
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocumentError("is encrypted")
    texts = (page.extract_text() for page in reader.pages)
    sections = [_page(number, text) for number, text in enumerate(texts, 1)]
    if not any(section.text.strip() for section in sections):
        raise UnreadableDocumentError("holds no text, only images")
    title = reader.metadata.title if reader.metadata else None
    return parsed(_clean(title or "").strip() or name, sections)


def _page(number: int, text: str) -> Section:
    text = _clean(text)
    lines = range(1, text.count("\n") + 2)
    return Section(f"page {number}", text, lines)


def _clean(text: str) -> str:
    """
    *text* without what no text file may hold: NUL and halves of surrogate pairs.
    """
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def parse_docx(name: str, data: bytes) -> Parsed:
    """
    Parse a Word file; a passage's line is the number of its paragraph or table row.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(each.file_size for each in archive.infolist()) > LARGEST_UNPACKED_BYTES:
            raise UnreadableDocumentError("unpacks to more than a document can hold")
    document = docx.Document(io.BytesIO(data))
    outline = _outline(document)
    if outline.empty:
        raise UnreadableDocumentError("holds no text")
    named = next((words for _, words in _headings(document)), name)
    return outline.finish(document.core_properties.title.strip() or named)


def _headings(document: Document) -> list[tuple[int, str]]:
    found = ((_level(each), each.text.strip()) for each in document.paragraphs)
    return sorted((pair for pair in found if all(pair)), key=lambda pair: pair[0])


def _outline(document: Document) -> Outline:
    outline, numbers = Outline(), count(1)
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            _add_table(outline, block, numbers)
        else:
            _add_paragraph(outline, block, next(numbers))
    return outline


def _add_paragraph(outline: Outline, paragraph: Paragraph, number: int) -> None:
    words = paragraph.text.strip()
    if words and (level := _level(paragraph)):
        outline.enter(level, words)
    elif words:
        outline.add(number, words)


def _add_table(outline: Outline, table: Table, numbers: "count[int]") -> None:
    for row in table.rows:
        number = next(numbers)
        cells = (" ".join(cell.text.split()) for cell in row.cells)
        # A merged cell comes once for every column that it spans.
        if words := "\t".join(dict.fromkeys(filter(None, cells))):
            outline.add(number, words)


def _level(paragraph: Paragraph) -> int:
    style = paragraph.style.name if paragraph.style else ""
    if style == "Title":
        return 1
    kind, _, depth = (style or "").partition(" ")
    return int(depth) + 1 if kind == "Heading" and depth.isdigit() else 0
