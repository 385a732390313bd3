"""
The items of batches: numbered as they come, told as long as they are left to do.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.batches import ItemRange, PendingItems, PoisonItem
from outlast.contracts.ids import ItemId
from outlast.ledger import item_sql
from outlast.ledger.batches import lock_batch
from outlast.ledger.effects import close_attempts
from outlast.ledger.payloads import load_if_stored, store_if_large
from outlast.store.database import Store
from outlast.store.schema import batches, item_failures, item_results, items
from outlast.store.upsert import insert

# How far one survey looks, and how many spans of what is left it tells.
MAX_PENDING_ITEMS = 200_000
MAX_PENDING_RANGES = 500

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
            known = self._known(connection, batch, [digest for digest, _, _ in rows])
            new = append(connection, batch, last, known, rows, self._clock())
        return AddedItems(new, len(rows) - new)

    def _known(
        self, connection: sa.Connection, batch: str, digests: list[bytes]
    ) -> set[bytes]:
        query = sa.select(items.c.digest).where(
            items.c.batch == batch, items.c.digest.in_(digests)
        )
        return set(connection.scalars(query))

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
        """
        Read the item whose row holds *body*, a reference.
        """
        with self.store.read() as connection:
            return load_if_stored(connection, batch, body)

    def failures(self, batch: str, span: ItemRange) -> dict[int, int]:
        """
        Tell how often items of *span* have failed.
        """
        query = sa.select(item_failures.c.item, item_failures.c.failures).where(
            item_failures.c.batch == batch,
            item_failures.c.item >= span.start,
            item_failures.c.item < span.stop,
        )
        with self.store.read() as connection:
            rows = connection.execute(query).all()
        return {row.item: row.failures for row in rows}

    def dead_letter(self, poison: PoisonItem) -> bool:
        """
        Give an item up that took its processes along; False when it is done: it may
        have died after its result was written.
        """
        row = {
            "batch": poison.batch,
            "item": poison.item,
            "failures": 0,
            "deaths": poison.deaths,
            "cause": poison.cause,
            "dead_at": (now := self._clock()),
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
                connection.execute(upsert_failure(row))
        return not done


def with_digests(given: Iterable[tuple[str, str | None]]) -> list[ItemRow]:
    """
    Put the digest of each item before it.
    """
    return [(item_digest(body), body, fault) for body, fault in given]


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
    line = sa.update(batches).where(batches.c.id == batch)
    connection.execute(line.values(total=last + len(fresh)))
    return len(fresh)


def item_digest(body: str) -> bytes:
    """
    Identify an item by its content.
    """
    return hashlib.sha256(body.encode()).digest()[:16]


def upsert_failure(row: dict[str, Any]) -> sa.Executable:
    """
    Make the statement that notes an item's trouble, new or again.
    """
    fresh = insert(item_failures).values(row)
    more = {
        "failures": _larger(item_failures.c.failures, fresh.excluded.failures),
        "deaths": _larger(item_failures.c.deaths, fresh.excluded.deaths),
        "cause": fresh.excluded.cause,
        "dead_at": fresh.excluded.dead_at,
        "traceback": fresh.excluded.traceback,
    }
    return fresh.on_conflict_do_update(index_elements=["batch", "item"], set_=more)


def _larger(
    old: sa.ColumnElement[int], new: sa.ColumnElement[int]
) -> sa.ColumnElement[int]:
    return sa.case((old > new, old), else_=new)
