"""
The index of one folder of documents, brought up to date batch by batch.

A batch is one transaction, and what is indexed is known by its content: killed at any
point and run again, the index is the same. Files are read and parsed outside it.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from outlast.crew.library import parsing
from outlast.crew.library.documents_root import resolve_within
from outlast.crew.library.folder import ScannedFile, scan
from outlast.crew.library.fulltext import Indexed, forget_document, index_of
from outlast.crew.library.passages import Parsed, Passage, UnreadableDocumentError
from outlast.crew.library.tables import documents, passages, reading, writing
from outlast.store.database import Store
from outlast.store.upsert import upsert

# Raised whenever the same file would give other passages: libraries are built anew.
LIBRARY_FORMAT = 1

# What one batch reads. A killed librarian reads at most this much again.
STEP_FILES = 64
STEP_BYTES = 4 * 1024 * 1024


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


@dataclass(frozen=True)
class UpdateStep:
    """
    What one step of an update did, and how many files are still to be looked at.
    """

    indexed: int
    removed: int
    remaining: int


def library_id(tenant: str, folder: Path, *host: str) -> str:
    """
    The name of the index of *folder*: one word, the same on every run.

    :param host: whose folder it is, where others may have another one of that path.
    :raises OutsideFolderError: when missions may not read that folder here.
    """
    parts = (str(LIBRARY_FORMAT), tenant, str(resolve_within(folder).resolve()), *host)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
    return "l" + digest.hexdigest()[:20]


async def update(store: Store, library: str, folder: Path) -> AsyncIterator[UpdateStep]:
    """
    Bring *library* up to date with *folder*, one transaction for each batch.

    :raises OSError: when the folder cannot be read.
    """
    removed, changed = await compare(store, library, folder)
    left = len(changed)
    yield UpdateStep(0, removed, left)
    for batch in _batches(changed):
        indexed = await put(store, library, batch)
        left -= len(batch)
        yield UpdateStep(indexed, 0, left)


async def compare(
    store: Store, library: str, folder: Path
) -> tuple[int, list[ScannedFile]]:
    """
    Remove from *library* what *folder* has no longer, and list what it has new or
    changed; returns how many were removed, and the list.

    :raises OSError: when the folder cannot be read.
    """
    listed = await asyncio.to_thread(scan, folder)
    known = await store.run(known_files, store, library)
    gone = known.keys() - {each.path for each in listed}
    if gone:
        await store.run(_remove, store, [known[path].id for path in gone])
    changed = [each for each in listed if not _same(each, known.get(each.path))]
    return len(gone), changed


def known_files(store: Store, library: str) -> IndexedFiles:
    columns = (documents.c[name] for name in IndexedFile.__dataclass_fields__)
    query = sa.select(*columns).where(documents.c.library == library)
    with reading(store) as connection:
        rows = connection.execute(query)
        return {row.path: IndexedFile(*row) for row in rows}


async def put(store: Store, library: str, batch: list[ScannedFile]) -> int:
    """
    Index *batch* in one transaction; returns how many of them were new.
    """
    known = await store.run(known_files, store, library)

    def read_all() -> list[ParsedDocument]:
        return [read(library, each, known.get(each.path)) for each in batch]

    entries = await asyncio.to_thread(read_all)
    return await store.run(write, store, entries)


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
    _remove(store, [each.id for each in known_files(store, library).values()])


def _same(listed: ScannedFile, known: IndexedFile | None) -> bool:
    """
    Tell by size and time, without reading it, that a file is as it was.
    """
    if known is None:
        return False
    return (listed.size, listed.mtime_ns) == (known.size, known.mtime_ns)


def _batches(listed: Iterable[ScannedFile]) -> Iterator[list[ScannedFile]]:
    batch: list[ScannedFile] = []
    size = 0
    for each in listed:
        if batch and (len(batch) == STEP_FILES or size + each.size > STEP_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch


def read(
    library: str, listed: ScannedFile, known: IndexedFile | None
) -> ParsedDocument:
    """
    Read and parse one file; a problem with it becomes its gap.
    """
    digest = ""
    try:
        if listed.problem:
            raise UnreadableDocumentError(listed.problem)
        data = parsing.load(listed.file)
        digest = hashlib.sha256(data).hexdigest()
        if known is not None and known.digest == digest:
            return ParsedDocument(library, listed, digest, None)
        return ParsedDocument(library, listed, digest, parsing.parse(listed.file, data))
    except UnreadableDocumentError as error:
        empty = Parsed(listed.file.stem, [])
        return ParsedDocument(library, listed, digest, empty, error.reason)


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


def _remove(store: Store, ids: list[int]) -> None:
    with writing(store) as connection:
        for document in ids:
            forget_document(connection, document)
            connection.execute(sa.delete(documents).where(documents.c.id == document))
