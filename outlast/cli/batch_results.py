"""
The starter's verbs for what came of a mission or a batch: its results, how far it is,
and how to take dead letters back.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator

from temporalio.client import Client

from outlast.cli.run_mission import reconciled, with_client
from outlast.cli.stores import open_store
from outlast.contracts.errors import BadInputError
from outlast.ledger.batches import INTERRUPTED, BatchRecord, BatchRecords
from outlast.ledger.item_results import ItemResults
from outlast.ledger.missions import MissionRecords
from outlast.process.called import tell
from outlast.process.safe_output import stream_error
from outlast.store.database import Store
from outlast.temporal.batches import resolve_batch, start_or_wake_pool
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.reconcile import ENDED_OUTSIDE, interrupted


def show_results(name: str) -> None:
    """
    Print the results there are of a mission or batch.
    """
    for line in result_lines(name, open_store()):
        print(line)
        if stream_error(sys.stdout):
            return


def result_lines(name: str, store: Store) -> Iterator[str]:
    """
    Read results one at a time: a JSON line for each task of the mission *name*, or for
    each item of the batch, in the order of the items.

    :raises BadInputError: when there is no such mission or batch.
    """
    mission = MissionRecords(store).find(name) is not None
    return (_tasks if mission else _items)(name, store)


def _tasks(mission: str, store: Store) -> Iterator[str]:
    results = MissionRecords(store).results(mission)
    for task in results:
        yield f'{{"task": "{task}", "result": {ascii_json(results.text(task))}}}'


def _items(batch: str, store: Store) -> Iterator[str]:
    require_batch(batch, store)
    for number, result, degraded in ItemResults(store).results(batch):
        more = f', "degraded": {json.dumps(degraded)}' if degraded else ""
        yield f'{{"item": {number}, "result": {ascii_json(result)}{more}}}'


def ascii_json(text: str) -> str:
    """
    Write the letters of the JSON *text* that not every terminal or pipe can take as
    their numbers; its numbers stay as they are written.
    """
    if text.isascii() and text.isprintable():
        return text
    return re.sub(r"[^ -~]", lambda found: json.dumps(found[0])[1:-1], text)


def redrive_items(
    batch: str, item: int | None, cause: str | None, store: Store
) -> None:
    """
    Take dead letters back and have the pool work on them.

    :raises BadInputError: when there is none such.
    """
    entry = require_batch(batch, store)
    again = resolve_batch(entry.role, batch, entry.tenant, store)

    async def take_back(client: Client) -> int:
        await require_known_server(client, store)
        count = ItemResults(store).redrive(batch, item, cause)
        if count:
            await start_or_wake_pool(client, again)
        return count

    count = asyncio.run(with_client(take_back))
    if not count:
        raise BadInputError(
            f"no dead letter in {batch!r} matches: see outlast dead-letters {batch}"
        )
    tell(f"{batch}: {count} taken back; follow with: outlast status {batch}")


def show_batch(batch: str, as_json: bool) -> None:
    """
    Print how far a batch is.
    """
    asyncio.run(reconciled(batch))
    store = open_store()
    entry, batches = require_batch(batch, store), BatchRecords(store)
    count = batches.count(batch)
    value = {
        "batch": batch,
        "status": entry.state,
        "items": count.items,
        "done": count.done,
        "dead": count.dead,
        "failing": batches.failing(batch),
    }
    if as_json:
        print(json.dumps(value))
    else:
        left = f"{count.done:,} of {count.items:,} done, {count.dead:,} dead letters"
        print(f"{batch}  {entry.state}  {left}")
        if entry.state == INTERRUPTED:
            tell(interrupted(batch, ENDED_OUTSIDE))


def is_batch(name: str, store: Store) -> bool:
    """
    Say whether *name* is a batch's.
    """
    return BatchRecords(store).find(name) is not None


def require_batch(batch: str, store: Store) -> BatchRecord:
    """
    Look *batch* up.

    :raises BadInputError: when there is no such batch.
    """
    entry = BatchRecords(store).find(batch)
    if entry is None:
        raise BadInputError(f"no batch {batch!r} is in the store")
    return entry
