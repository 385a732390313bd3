"""
A file's text as passages that carry their headings and their lines.

All that can be wrong with a file is raised as UnreadableDocumentError.
"""

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from outlast.contracts.errors import OutsideFolderError
from outlast.crew.library.documents_root import resolve_within
from outlast.crew.library.html import parse_html
from outlast.crew.library.office import parse_docx, parse_pdf
from outlast.crew.library.passages import Parsed, Passage, UnreadableDocumentError
from outlast.crew.library.plaintext import parse_markdown, parse_text

__all__ = ["SUFFIXES", "Parsed", "Passage", "UnreadableDocumentError", "load", "parse"]

# A larger file is no document that a person wrote.
MAX_DOCUMENT_BYTES = 20 * 1024 * 1024

# With more control characters than this share, a file is no text.
CONTROL_SHARE = 0.02

TEXT_PARSERS: dict[str, Callable[[str, str], Parsed]] = {
    ".htm": parse_html,
    ".html": parse_html,
    ".markdown": parse_markdown,
    ".md": parse_markdown,
    ".txt": parse_text,
    ".xhtml": parse_html,
}
BINARY_PARSERS: dict[str, Callable[[str, bytes], Parsed]] = {
    ".docx": parse_docx,
    ".pdf": parse_pdf,
}
# Documents all the same: a folder's report must say that they were not read.
UNSUPPORTED_SUFFIXES = (
    ".doc",
    ".epub",
    ".odp",
    ".ods",
    ".odt",
    ".ppt",
    ".pptx",
    ".rtf",
    ".xlsx",
)
SUFFIXES = frozenset((*TEXT_PARSERS, *BINARY_PARSERS, *UNSUPPORTED_SUFFIXES))

_CONTROL = re.compile(r"[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_CHARSET = re.compile(rb"<meta[^>]{1,200}?charset=[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def load(path: Path) -> bytes:
    """
    Read the file at *path*.

    :raises UnreadableDocumentError: when it is away, locked, too large, or outside of
        what missions may read here.
    """
    try:
        file = resolve_within(path)
        if file.stat().st_size > MAX_DOCUMENT_BYTES:
            megabytes = MAX_DOCUMENT_BYTES // (1024 * 1024)
            raise UnreadableDocumentError(f"is larger than {megabytes} MB")
        return file.read_bytes()
    except OutsideFolderError:
        raise UnreadableDocumentError("is outside OUTLAST_DOCUMENTS_ROOT") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableDocumentError(f"cannot be opened: {reason}") from None


def parse(path: Path, data: bytes | None = None) -> Parsed:
    """
    Parse the file at *path*, or *data* as if it were that file's content.

    :raises UnreadableDocumentError: when it cannot be parsed, for any reason.
    """
    content = load(path) if data is None else data
    try:
        return _parse(path.suffix.lower(), path.stem, content)
    except UnreadableDocumentError:
        raise
    except Exception as error:  # parsers of foreign files raise anything
        reason = f"is damaged ({type(error).__name__})"
        raise UnreadableDocumentError(reason) from error


def _parse(suffix: str, name: str, data: bytes) -> Parsed:
    if not data.strip():
        raise UnreadableDocumentError("is empty")
    if suffix in TEXT_PARSERS:
        return TEXT_PARSERS[suffix](name, decoded(data))
    if suffix in BINARY_PARSERS:
        return BINARY_PARSERS[suffix](name, data)
    raise UnreadableDocumentError(f"is of a kind that cannot be read ({suffix})")


def decoded(data: bytes) -> str:
    """
    *data* as text with "\\n" at the ends of lines, as Python's text files have it.

    :raises UnreadableDocumentError: when it is no text.
    """
    text = _decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text or len(_CONTROL.findall(text)) > CONTROL_SHARE * len(text):
        raise UnreadableDocumentError("is not text")
    return text


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    found = _CHARSET.search(data[:2000])
    declared = [found.group(1).decode()] if found else []
    for encoding in ("utf-8-sig", *declared, "cp1252"):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("latin-1")
