"""
The index of one folder of documents, brought up to date batch by batch.

A batch is one transaction, and what is indexed is known by its content: killed at any
point and run again, the index is the same. Files are read and parsed outside it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.crew.library import index, parsing
from outlast.crew.library.documents_root import resolve_within
from outlast.crew.library.folder import ScannedFile, scan
from outlast.crew.library.index import IndexedFile, ParsedDocument
from outlast.crew.library.passages import Parsed, UnreadableDocumentError
from outlast.store.database import Store

# Raised whenever the same file would give other passages: libraries are built anew.
LIBRARY_FORMAT = 1

# What one batch reads. A killed librarian reads at most this much again.
STEP_FILES = 64
STEP_BYTES = 4 * 1024 * 1024


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
    known = await store.run(index.known_files, store, library)
    gone = known.keys() - {each.path for each in listed}
    if gone:
        await store.run(index.remove, store, [known[path].id for path in gone])
    changed = [each for each in listed if not _same(each, known.get(each.path))]
    return len(gone), changed


async def put(store: Store, library: str, batch: list[ScannedFile]) -> int:
    """
    Index *batch* in one transaction; returns how many of them were new.
    """
    known = await store.run(index.known_files, store, library)

    def read_all() -> list[ParsedDocument]:
        return [read(library, each, known.get(each.path)) for each in batch]

    entries = await asyncio.to_thread(read_all)
    return await store.run(index.write, store, entries)


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
