"""
The librarian: bring the index of a folder up to date, batch by batch.
"""

from pathlib import Path

from pydantic import BaseModel

from activities.answering.handover import Gap, Index
from outlast import GiveUp, Run, agent
from outlast.store import library
from outlast.store.database import shared

# A report with more gaps than this is read by nobody; the rest is counted.
MOST_GAPS = 200


class Order(BaseModel):
    documents: Path


class Shelved(BaseModel):
    """
    What earlier attempts have done already; the index itself says what is left.
    """

    indexed: int = 0
    removed: int = 0


@agent("librarian", version=1)
async def librarian(order: Order, run: Run) -> Index:
    """
    Index the documents below the folder.
    """
    name = library.library_id(run.tenant, order.documents)
    done = await run.resume(Shelved, Shelved())
    try:
        async for batch in library.update(shared(), name, order.documents):
            done.indexed += batch.indexed
            done.removed += batch.removed
            await run.save(done)
            run.say(f"indexed {done.indexed}, {batch.left} to go")
    except OSError as error:
        reason = error.strerror or str(error)
        raise GiveUp(f"the folder {order.documents} cannot be read: {reason}") from None
    return await _index(name, done)


async def _index(name: str, done: Shelved) -> Index:
    store = shared()
    gaps = await store.run(library.gaps, store, name)
    return Index(
        library=name,
        documents=await store.run(library.documents_of, store, name),
        indexed=done.indexed,
        removed=done.removed,
        gaps=[Gap(document=path, reason=why) for path, why in gaps[:MOST_GAPS]],
        gaps_total=len(gaps),
    )
