"""
The librarian: bring the index of a folder up to date; an ingested one is as it is.

In a mission the work is spread over the pool first, so that a document which crashes
or hangs its parser loses nothing else: *shelve* finds what is new, *indexer* reads
each document, and the librarian makes the index of it, with a gap for what could not
be read.
"""

import asyncio
from pathlib import Path

from pydantic import BaseModel, Field

from outlast import Context, FanOut, GiveUp, agent
from outlast.contracts.results import FanOutRef
from outlast.contracts.retries import Policy
from outlast.crew.crew_models import DocumentSource, Gap, LibraryIndex
from outlast.crew.library import index, library
from outlast.crew.library.folder import stat_document
from outlast.store.database import Store

# A report with more gaps than this is too long to read; the rest is counted.
MAX_GAPS = 200
# Documents that are written to the index in one transaction.
DOCUMENTS_AT_ONCE = 16
# One document that takes its parser longer hangs it.
SCAN_LIMIT_S = 20.0


class ShelverInput(BaseModel):
    documents: Path


class LibrarianInput(DocumentSource):
    needs: dict[str, FanOutRef] = Field(default_factory=dict)


class Shelved(BaseModel):
    """
    What earlier attempts have done already; the index itself says what is left.
    """

    indexed: int = 0
    removed: int = 0


class Document(BaseModel):
    """
    One document to read; *at* tells its versions apart.
    """

    library: str
    folder: Path
    path: str
    at: int


@agent("shelver", version=1)
async def shelver(order: ShelverInput, ctx: Context) -> FanOut:
    """
    Find the documents that are new or changed, for the indexers.
    """
    name = library.library_id(ctx.tenant, order.documents)
    try:
        _, changed = await library.compare(ctx.store, name, order.documents)
    except OSError as error:
        raise _unreadable(order.documents, error) from None
    folder = str(order.documents)
    items = [
        {"library": name, "folder": folder, "path": each.path, "at": each.mtime_ns}
        for each in changed
        if each.problem is None  # the librarian names what has a bad name
    ]
    return FanOut(role="indexer", items=items)


@agent(
    "indexer",
    version=1,
    batch_size=DOCUMENTS_AT_ONCE,
    policy=Policy(stall_s=SCAN_LIMIT_S),
)
async def indexer(documents: list[Document], ctx: Context) -> list[int]:
    """
    Read a few documents into the index.
    """
    store, name = ctx.store, documents[0].library
    known = await store.run(index.known_files, store, name)
    entries = []
    for each in documents:
        ctx.emit(each.path)
        listed = stat_document(each.folder, each.path)
        entry = await asyncio.to_thread(
            library.read, name, listed, known.get(each.path)
        )
        entries.append(entry)
    await store.run(index.write, store, entries)
    return [1] * len(documents)


@agent("librarian", version=1)
async def librarian(order: LibrarianInput, ctx: Context) -> LibraryIndex:
    """
    Index what is left of the documents below the folder, and say what there is.
    """
    if order.documents is None:
        return await _ingested(ctx.store, order.library or "")
    name = library.library_id(ctx.tenant, order.documents)
    done = await ctx.resume(Shelved, Shelved())
    for spread in order.needs.values():
        await _collect(name, spread, done, ctx)
    try:
        async for batch in library.update(ctx.store, name, order.documents):
            done.indexed += batch.indexed
            done.removed += batch.removed
            await ctx.save(done)
            ctx.emit(f"indexed {done.indexed}, {batch.remaining} to go")
    except OSError as error:
        raise _unreadable(order.documents, error) from None
    return await _index(ctx.store, name, done)


async def _ingested(store: Store, name: str) -> LibraryIndex:
    """
    Say what there is of a library that is nowhere but in the store.
    """
    found = await _index(store, name, Shelved())
    if not found.documents:
        raise GiveUp(
            f"there is no library {name!r} in the store: `outlast ingest FOLDER` "
            "makes one and says its id"
        )
    return found


async def _collect(name: str, spread: FanOutRef, done: Shelved, ctx: Context) -> None:
    """
    Count what the indexers have done, and leave out what they could not read.
    """
    store, done.indexed = ctx.store, 0
    async for each in ctx.batch_results(spread.batch):
        if each.dead is None:
            done.indexed += 1
            continue
        document = Document.model_validate(each.input)
        listed = stat_document(document.folder, document.path)
        reason = f"could not be read: {each.dead}"
        await store.run(index.record_gap, store, name, listed, reason)


def _unreadable(folder: Path, error: OSError) -> GiveUp:
    reason = error.strerror or str(error)
    return GiveUp(f"the folder {folder} cannot be read: {reason}")


async def _index(store: Store, name: str, done: Shelved) -> LibraryIndex:
    gaps = await store.run(index.gaps, store, name)
    return LibraryIndex(
        library=name,
        documents=await store.run(index.documents_of, store, name),
        indexed=done.indexed,
        removed=done.removed,
        gaps=[Gap(document=path, reason=why) for path, why in gaps[:MAX_GAPS]],
        gaps_total=len(gaps),
    )
