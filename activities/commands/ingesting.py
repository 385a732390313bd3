"""
Make a library of a folder that only the starter can read: its index in the store is
all that workers elsewhere need.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from outlast.cli.session import Session, require_local_workers
from outlast.crew.commands.question import check_folder, library_of
from outlast.crew.library import index, library
from outlast.settings import settings
from outlast.store.database import Store


@dataclass(frozen=True)
class IngestReport:
    """
    What the store has of a folder; *gaps* of the documents could not be read.
    """

    library: str
    documents: int
    indexed: int  # new or changed
    removed: int
    gaps: int


def show_ingested(documents: Path, as_json: bool) -> None:
    done = ingest(check_folder(documents))
    if as_json:
        print(json.dumps(asdict(done)))
        return
    gaps = f", {done.gaps} of them could not be read" if done.gaps else ""
    print(f"library {done.library}: {done.documents} documents{gaps}")


def ingest_if_shared(documents: Path) -> None:
    """
    Ingest what a question is asked of, where other hosts' workers shall answer it.
    """
    if settings().database_url is not None:
        ingest(check_folder(documents))


def ingest(folder: Path) -> IngestReport:
    """
    Bring the library of *folder* up to date, reading what is new or changed.

    :raises BadInputError: when the workers cannot see the store.
    """
    require_local_workers()
    with Session() as session:
        return asyncio.run(_ingest(session.store, library_of(folder), folder))


async def _ingest(store: Store, name: str, folder: Path) -> IngestReport:
    indexed = removed = 0
    async for batch in library.update(store, name, folder):
        indexed += batch.indexed
        removed += batch.removed
        if batch.remaining:
            print(f"ingesting {folder}: {batch.remaining} to go", file=sys.stderr)
    return IngestReport(
        library=name,
        documents=await store.run(index.documents_of, store, name),
        indexed=indexed,
        removed=removed,
        gaps=len(await store.run(index.gaps, store, name)),
    )
