"""
The rows of the index: what it knows of each document, one transaction a batch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from outlast.crew.library.folder import ScannedFile
from outlast.crew.library.fulltext import Indexed, forget_document, index_of
from outlast.crew.library.passages import Parsed, Passage
from outlast.crew.library.tables import documents, passages, reading, writing
from outlast.store.database import Store
from outlast.store.upsert import upsert


@dataclass(frozen=True)
class IndexedFile:
    """
    What the index knows of a file.
    """

    id: int
    path: str
    size: int
    mtime_ns: int
    digest: str


IndexedFiles = Mapping[str, IndexedFile]  # by path


@dataclass(frozen=True)
class ParsedDocument:
    """
    A file as it will stand in the index: parsed, or with the reason why not.
    """

    library: str
    listed: ScannedFile
    digest: str
    parsed: Parsed | None  # None: its content is as it was
    gap: str | None = None


def known_files(store: Store, library: str) -> IndexedFiles:
    columns = (documents.c[name] for name in IndexedFile.__dataclass_fields__)
    query = sa.select(*columns).where(documents.c.library == library)
    with reading(store) as connection:
        rows = connection.execute(query)
        return {row.path: IndexedFile(*row) for row in rows}


def record_gap(store: Store, library: str, listed: ScannedFile, reason: str) -> None:
    """
    Note that a document cannot be read, so that it is not tried again until it changes.
    """
    empty = Parsed(listed.file.stem, [])
    write(store, [ParsedDocument(library, listed, "", empty, reason)])


def gaps(store: Store, library: str) -> list[tuple[str, str]]:
    query = sa.select(documents.c.path, documents.c.gap).where(
        documents.c.library == library, documents.c.gap.is_not(None)
    )
    with reading(store) as connection:
        rows = connection.execute(query.order_by(documents.c.path))
        return [(path, gap) for path, gap in rows]


def documents_of(store: Store, library: str) -> int:
    """
    The number of documents of *library*, those with a gap included.
    """
    query = sa.select(sa.func.count()).where(documents.c.library == library)
    with reading(store) as connection:
        return int(connection.scalar(query) or 0)


def forget(store: Store, library: str) -> None:
    remove(store, [each.id for each in known_files(store, library).values()])


def write(store: Store, entries: list[ParsedDocument]) -> int:
    """
    Put *entries* into the index in one transaction; how many of them were new.
    """
    with writing(store) as connection:
        for each in entries:
            if each.parsed is None:
                _touch(connection, each)
            else:
                _replace(connection, each)
    return sum(each.parsed is not None for each in entries)


def _touch(connection: sa.Connection, entry: ParsedDocument) -> None:
    row = sa.update(documents).where(
        documents.c.library == entry.library, documents.c.path == entry.listed.path
    )
    times = {"size": entry.listed.size, "mtime_ns": entry.listed.mtime_ns}
    connection.execute(row.values(times))


def _replace(connection: sa.Connection, entry: ParsedDocument) -> None:
    """
    Put one document in the place of what the index had under its path.
    """
    row = {
        "library": entry.library,
        "path": entry.listed.path,
        "size": entry.listed.size,
        "mtime_ns": entry.listed.mtime_ns,
        "digest": entry.digest,
        "title": entry.parsed.title if entry.parsed else "",
        "gap": entry.gap,
    }
    # Another process that indexes the same document waits here for our commit.
    document = int(connection.scalar(_PLACED, row) or 0)
    forget_document(connection, document)
    connection.execute(sa.delete(passages).where(passages.c.document_id == document))
    _insert(connection, document, entry)


_PLACED = upsert(
    documents, ["library", "path"], ["size", "mtime_ns", "digest", "title", "gap"]
).returning(documents.c.id)


def _insert(connection: sa.Connection, document: int, entry: ParsedDocument) -> None:
    """
    Add the passages of *entry*: their rows, and their words for the search.
    """
    parsed = entry.parsed
    if parsed is None or not parsed.passages:
        return
    rows = [_row(document, each) for each in parsed.passages]
    added = sa.insert(passages).returning(passages.c.id, sort_by_parameter_order=True)
    numbers = connection.scalars(added, rows).all()
    title = f"{entry.listed.path} {parsed.title}"
    words = [
        Indexed(number, entry.library, title, each.heading, each.text)
        for number, each in zip(numbers, parsed.passages, strict=True)
    ]
    index_of(connection).add(connection, words)


def _row(document: int, passage: Passage) -> dict[str, object]:
    return {
        "document_id": document,
        "line": passage.line,
        "lines": json.dumps(list(passage.lines)) if passage.lines else None,
        "heading": passage.heading,
        "text": passage.text,
    }


def remove(store: Store, ids: list[int]) -> None:
    with writing(store) as connection:
        for document in ids:
            forget_document(connection, document)
            connection.execute(sa.delete(documents).where(documents.c.id == document))
