"""
The items of batches: numbered as they come, told as long as they are left to do.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.batches import Burial, Span, Survey
from outlast.contracts.ids import ItemId
from outlast.ledger import item_sql
from outlast.ledger.batches import hold
from outlast.ledger.effects import close_lines
from outlast.ledger.payloads import fold, unfold
from outlast.store.database import Store
from outlast.store.schema import batches, item_results, item_troubles, items
from outlast.store.upsert import insert

# How far one survey looks, and how many spans of what is left it tells.
SURVEY_ITEMS = 200_000
SURVEY_SPANS = 500

Row = tuple[bytes, str, str | None]  # digest, body, fault


@dataclass(frozen=True)
class Added:
    """
    What came of adding items.
    """

    new: int
    known: int  # the same item was there already


class Items:
    """
    The items in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self.store = store
        self._clock = clock or store.clock

    def add(self, batch: str, given: Iterable[tuple[str, str | None]]) -> Added:
        """
        Append items, each the JSON text of an object; one that is there is skipped.

        What comes with a fault is no item that an agent could have: it is a dead
        letter from the start.
        """
        rows = identified(given)
        with self.store.write(durable=False) as connection:
            last = hold(connection, batch)
            known = self._known(connection, batch, [digest for digest, _, _ in rows])
            new = append(connection, batch, last, known, rows, self._clock())
        return Added(new, len(rows) - new)

    def _known(
        self, connection: sa.Connection, batch: str, digests: list[bytes]
    ) -> set[bytes]:
        query = sa.select(items.c.digest).where(
            items.c.batch == batch, items.c.digest.in_(digests)
        )
        return set(connection.scalars(query))

    def survey(self, batch: str, after: int) -> Survey:
        """
        Find what is left to do past the item *after*.
        """
        with self.store.read() as connection:
            entry = connection.execute(
                sa.select(batches).where(batches.c.id == batch)
            ).one()
            up_to = min(entry.total, after + SURVEY_ITEMS)
            asked = {"batch": batch, "after": after, "up_to": up_to}
            rows = connection.execute(
                item_sql.SURVEY, {**asked, "most": SURVEY_SPANS}
            ).all()
        if len(rows) == SURVEY_SPANS:
            up_to = rows[-1][1] - 1
        return Survey(
            pending=[Span(start=start, stop=stop) for start, stop in rows],
            up_to=up_to,
            items=entry.total,
            sealed=entry.sealed,
        )

    def read(self, batch: str, span: Span, most: int) -> str:
        """
        Read up to *most* items of *span* that are left to do, as the JSON text of
        pairs: number, and the item's own JSON text, or a reference: see `whole`.
        """
        asked = {"batch": batch, "start": span.start, "stop": span.stop, "most": most}
        with self.store.read() as connection:
            return item_sql.read(connection, asked)

    def whole(self, batch: str, body: str) -> str:
        """
        Read the item whose row holds *body*, a reference.
        """
        with self.store.read() as connection:
            return unfold(connection, batch, body)

    def troubles(self, batch: str, span: Span) -> dict[int, int]:
        """
        Tell how often items of *span* have failed.
        """
        query = sa.select(item_troubles.c.item, item_troubles.c.failures).where(
            item_troubles.c.batch == batch,
            item_troubles.c.item >= span.start,
            item_troubles.c.item < span.stop,
        )
        with self.store.read() as connection:
            rows = connection.execute(query).all()
        return {row.item: row.failures for row in rows}

    def bury(self, burial: Burial) -> bool:
        """
        Give an item up that took its processes along; False when it is done: it may
        have died after its result was written.
        """
        row = {
            "batch": burial.batch,
            "item": burial.item,
            "failures": 0,
            "deaths": burial.deaths,
            "cause": burial.cause,
            "dead_at": (now := self._clock()),
            "traceback": None,
        }
        result = sa.select(item_results.c.item).where(
            item_results.c.batch == burial.batch, item_results.c.item == burial.item
        )
        with self.store.write() as connection:
            hold(connection, burial.batch)
            task = str(ItemId(burial.item))
            close_lines(connection, burial.batch, now, task)
            done = connection.scalar(result) is not None
            if not done:
                connection.execute(trouble(row))
        return not done


def identified(given: Iterable[tuple[str, str | None]]) -> list[Row]:
    """
    Put the digest of each item before it.
    """
    return [(digest_of(body), body, fault) for body, fault in given]


def append(
    connection: sa.Connection,
    batch: str,
    last: int,
    known: set[bytes],
    rows: list[Row],
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
        kept = fold(connection, batch, body)
        fresh.append({**key, "digest": digest, "body": kept})
        if fault is not None:
            buried = {"failures": 0, "deaths": 0, "cause": fault, "dead_at": now}
            dead.append({**key, **buried})
    for table, found in ((items, fresh), (item_troubles, dead)):
        if found:
            connection.execute(sa.insert(table), found)
    line = sa.update(batches).where(batches.c.id == batch)
    connection.execute(line.values(total=last + len(fresh)))
    return len(fresh)


def digest_of(body: str) -> bytes:
    """
    Identify an item by its content.
    """
    return hashlib.sha256(body.encode()).digest()[:16]


def trouble(row: dict[str, Any]) -> sa.Executable:
    """
    Make the statement that notes an item's trouble, new or again.
    """
    fresh = insert(item_troubles).values(row)
    more = {
        "failures": _larger(item_troubles.c.failures, fresh.excluded.failures),
        "deaths": _larger(item_troubles.c.deaths, fresh.excluded.deaths),
        "cause": fresh.excluded.cause,
        "dead_at": fresh.excluded.dead_at,
        "traceback": fresh.excluded.traceback,
    }
    return fresh.on_conflict_do_update(index_elements=["batch", "item"], set_=more)


def _larger(
    old: sa.ColumnElement[int], new: sa.ColumnElement[int]
) -> sa.ColumnElement[int]:
    return sa.case((old > new, old), else_=new)
