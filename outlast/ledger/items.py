"""
The items of batches: numbered as they come, listed as long as they are left to do, and
dead-lettered when their attempts, or their processes, have failed too often.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.batches import Batch, ItemRange, PendingItems, PoisonItem
from outlast.contracts.errors import GiveUp
from outlast.contracts.ids import ItemId
from outlast.ledger import item_sql
from outlast.ledger.attempts import close_attempts
from outlast.ledger.batches import OPEN, batch_row, lock_batch
from outlast.ledger.payloads import load_if_stored, store_if_large
from outlast.ledger.retention import delete_batch
from outlast.store.database import Store
from outlast.store.schema import batches, item_failures, item_results, items
from outlast.store.upsert import insert

# How many items one look covers, and how many ranges of what is left it returns.
MAX_PENDING_ITEMS = 200_000
MAX_PENDING_RANGES = 500

_FAILED = insert(item_failures)


def _larger(name: str) -> sa.ColumnElement[int]:
    old, new = item_failures.c[name], _FAILED.excluded[name]
    return sa.case((old > new, old), else_=new)


# Notes an item's failure, the first one or a later one.
UPSERT_FAILURE = _FAILED.on_conflict_do_update(
    index_elements=["batch", "item"],
    set_={
        "failures": _larger("failures"),
        "deaths": _larger("deaths"),
        **{name: _FAILED.excluded[name] for name in ("cause", "dead_at", "traceback")},
    },
)

ItemRow = tuple[bytes, str, str | None]  # digest, body, fault


@dataclass(frozen=True)
class AddedItems:
    """
    What came of adding items.
    """

    new: int
    duplicates: int  # the same item was there already


class ItemRecords:
    """
    The items in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self.store = store
        self._clock = clock or store.clock

    def add(self, batch: str, given: Iterable[tuple[str, str | None]]) -> AddedItems:
        """
        Append items, each the JSON text of an object; one that is there is skipped.

        What comes with a fault is no item that an agent could have: it is a dead
        letter from the start.
        """
        rows = with_digests(given)
        with self.store.write(durable=False) as connection:
            last = lock_batch(connection, batch)
            query = sa.select(items.c.digest).where(
                items.c.batch == batch, items.c.digest.in_([row[0] for row in rows])
            )
            known = set(connection.scalars(query))
            new = append(connection, batch, last, known, rows, self._clock())
        return AddedItems(new, len(rows) - new)

    def pending(self, batch: str, after: int) -> PendingItems:
        """
        Find what is left to do past the item *after*.
        """
        with self.store.read() as connection:
            entry = connection.execute(
                sa.select(batches).where(batches.c.id == batch)
            ).one()
            up_to = min(entry.total, after + MAX_PENDING_ITEMS)
            asked = {"batch": batch, "after": after, "up_to": up_to}
            rows = connection.execute(
                item_sql.PENDING_RANGES, {**asked, "most": MAX_PENDING_RANGES}
            ).all()
        if len(rows) == MAX_PENDING_RANGES:
            up_to = rows[-1][1] - 1
        return PendingItems(
            ranges=[ItemRange(start=start, stop=stop) for start, stop in rows],
            up_to=up_to,
            items=entry.total,
            closed=entry.closed,
        )

    def read(self, batch: str, span: ItemRange, most: int) -> str:
        """
        Read up to *most* items of *span* that are left to do, as the JSON text of
        pairs: number, and the item's own JSON text, or a reference: see `full_body`.
        """
        asked = {"batch": batch, "start": span.start, "stop": span.stop, "most": most}
        with self.store.read() as connection:
            return item_sql.read_items(connection, asked)

    def full_body(self, batch: str, body: str) -> str:
        with self.store.read() as connection:
            return load_if_stored(connection, batch, body)

    def failures(self, batch: str, span: ItemRange) -> dict[int, int]:
        query = sa.select(item_failures.c.item, item_failures.c.failures).where(
            item_failures.c.batch == batch,
            item_failures.c.item >= span.start,
            item_failures.c.item < span.stop,
        )
        return {row.item: row.failures for row in self.store.rows(query)}

    def dead_letter(self, poison: PoisonItem) -> bool:
        """
        Give an item up whose processes died; False when it is done: the last one may
        have died after the result was written.
        """
        now = self._clock()
        row = {
            "batch": poison.batch,
            "item": poison.item,
            "failures": 0,
            "deaths": poison.deaths,
            "cause": poison.cause,
            "dead_at": now,
            "traceback": None,
        }
        result = sa.select(item_results.c.item).where(
            item_results.c.batch == poison.batch, item_results.c.item == poison.item
        )
        with self.store.write() as connection:
            lock_batch(connection, poison.batch)
            task = str(ItemId(poison.item))
            close_attempts(connection, poison.batch, now, task)
            done = connection.scalar(result) is not None
            if not done:
                connection.execute(UPSERT_FAILURE, row)
        return not done


def with_digests(given: Iterable[tuple[str, str | None]]) -> list[ItemRow]:
    """
    Put before each item its digest, which identifies it by its content.
    """
    return [
        (hashlib.sha256(body.encode()).digest()[:16], body, fault)
        for body, fault in given
    ]


def append(
    connection: sa.Connection,
    batch: str,
    last: int,
    known: set[bytes],
    rows: list[ItemRow],
    now: float,
) -> int:
    """
    Number those of *rows* that are not *known* from past *last*, and insert them;
    returns how many. The caller holds the batch.
    """
    fresh: list[dict[str, Any]] = []
    dead: list[dict[str, Any]] = []
    for digest, body, fault in rows:
        if digest in known:
            continue
        known.add(digest)
        key = {"batch": batch, "item": last + len(fresh) + 1}
        kept = store_if_large(connection, batch, body)
        fresh.append({**key, "digest": digest, "body": kept})
        if fault is not None:
            dead_row = {"failures": 0, "deaths": 0, "cause": fault, "dead_at": now}
            dead.append({**key, **dead_row})
    for table, found in ((items, fresh), (item_failures, dead)):
        if found:
            connection.execute(sa.insert(table), found)
    total = {"total": last + len(fresh)}
    connection.execute(sa.update(batches).where(batches.c.id == batch).values(total))
    return len(fresh)


def write_fan_out(
    connection: sa.Connection,
    batch: Batch,
    rows: list[ItemRow],
    recorded: bool,
    now: float,
) -> None:
    """
    Enter *batch*, closed, with the items *rows*, instead of those that an attempt has
    left which never recorded them.

    :param recorded: whether an answer has asked for the batch that there may be.
    :raises GiveUp: when that one is or was worked through: it is not opened again.
    """
    own = batches.c.id == batch.id
    # No two write here: the task's claim is held, and no other attempt adds to it.
    state = connection.scalar(sa.select(batches.c.state).where(own))
    if state is not None:
        if recorded or state != OPEN:
            raise GiveUp(
                f"the items of {batch.id} were handed out before: a round of a task "
                f"fans out once; see `outlast status {batch.id}`"
            )
        delete_batch(connection, batch.id)
    connection.execute(sa.insert(batches), {**batch_row(batch, now), "closed": True})
    append(connection, batch.id, 0, set(), rows, now)
