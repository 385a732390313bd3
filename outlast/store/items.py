"""
The items of batches, their results, and those that are given up.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.errors import BadInputError
from outlast.contracts.pool import Batch, BatchReport, Burial, Span, Survey
from outlast.store import bulk
from outlast.store.database import Store
from outlast.store.schema import (
    attempts,
    batches,
    blobs,
    checkpoints,
    claims,
    effects,
    item_results,
    item_troubles,
    items,
    refusals,
    spending,
)
from outlast.store.upsert import enter, insert

OPEN, COMPLETED, CANCELLED = "open", "completed", "cancelled"

# How far one survey looks, and how many spans of what is left it tells.
SURVEY_ITEMS = 200_000
SURVEY_SPANS = 500

COUNT_DEAD = (
    sa.select(sa.func.count())
    .select_from(item_troubles)
    .where(item_troubles.c.dead_at.is_not(None))
)


@dataclass(frozen=True)
class Added:
    """
    What came of adding items.
    """

    new: int
    known: int  # the same item was there already


@dataclass(frozen=True)
class Entry:
    """
    One batch's line.
    """

    id: str
    tenant: str
    role: str
    state: str
    sealed: bool
    total: int
    accepted_at: float
    finished_at: float | None


@dataclass(frozen=True)
class DeadLetter:
    """
    An item that was given up, and why.
    """

    batch: str
    item: int
    input: JsonValue
    cause: str
    failures: int
    deaths: int


@dataclass(frozen=True)
class Harvested:
    """
    An item and what became of it.
    """

    item: int
    input: JsonValue
    result: JsonValue
    degraded: str | None
    dead: str | None  # why there is no result


class Items:
    """
    The batches in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock = clock

    def open(self, batch: Batch) -> None:
        """
        Enter *batch*, or open it again for more items.

        :raises BadInputError: when the id belongs to a batch for another agent.
        """
        row = {
            "id": batch.id,
            "tenant": batch.tenant,
            "role": batch.role,
            "state": OPEN,
            "sealed": False,
            "total": 0,
            "accepted_at": self._clock(),
        }
        with self.store.write() as connection:
            if enter(connection, batches, row):
                return
            found = connection.execute(
                sa.select(batches).where(batches.c.id == batch.id)
            ).one()
            if (found.role, found.tenant) != (batch.role, batch.tenant):
                raise BadInputError(
                    f"batch {batch.id!r} is for agent {found.role!r} of tenant "
                    f"{found.tenant!r}; choose another id"
                )
            again = {"state": OPEN, "sealed": False, "finished_at": None}
            line = sa.update(batches).where(batches.c.id == batch.id)
            connection.execute(line.values(again))

    def add(self, batch: str, given: Iterable[tuple[str, str | None]]) -> Added:
        """
        Append items, each the JSON text of an object; one that is there is skipped.

        What comes with a fault is no item that an agent could have: it is a dead
        letter from the start.
        """
        rows = [(digest_of(body), body, fault) for body, fault in given]
        with self.store.write(durable=False) as connection:
            number = _alone(connection, batch)
            known = self._known(connection, batch, [digest for digest, _, _ in rows])
            fresh: list[dict[str, Any]] = []
            dead: list[dict[str, Any]] = []
            for digest, body, fault in rows:
                if digest in known:
                    continue
                known.add(digest)
                number += 1
                key = {"batch": batch, "item": number}
                fresh.append({**key, "digest": digest, "body": body})
                if fault is not None:
                    dead.append({**key, **self._faulty(fault)})
            for table, found in ((items, fresh), (item_troubles, dead)):
                if found:
                    connection.execute(sa.insert(table), found)
            line = sa.update(batches).where(batches.c.id == batch)
            connection.execute(line.values(total=number))
        return Added(len(fresh), len(rows) - len(fresh))

    def _faulty(self, fault: str) -> dict[str, Any]:
        return {
            "failures": 0,
            "deaths": 0,
            "cause": fault,
            "dead_at": self._clock(),
        }

    def _known(
        self, connection: sa.Connection, batch: str, digests: list[bytes]
    ) -> set[bytes]:
        query = sa.select(items.c.digest).where(
            items.c.batch == batch, items.c.digest.in_(digests)
        )
        return set(connection.scalars(query))

    def seal(self, batch: str) -> None:
        """
        Note, durably, that no more items will come.
        """
        with self.store.write() as connection:
            line = sa.update(batches).where(batches.c.id == batch)
            connection.execute(line.values(sealed=True))

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
                bulk.SURVEY, {**asked, "most": SURVEY_SPANS}
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
        pairs: number, and the item's own JSON text.
        """
        asked = {"batch": batch, "start": span.start, "stop": span.stop, "most": most}
        with self.store.read() as connection:
            return bulk.read(connection, asked)

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

    def bury(self, burial: Burial) -> None:
        """
        Give an item up that took its processes along.
        """
        row = {
            "batch": burial.batch,
            "item": burial.item,
            "failures": 0,
            "deaths": burial.deaths,
            "cause": burial.cause,
            "dead_at": self._clock(),
        }
        result = sa.select(item_results.c.item).where(
            item_results.c.batch == burial.batch, item_results.c.item == burial.item
        )
        with self.store.write() as connection:
            _alone(connection, burial.batch)
            # It may have died after its result was written: then it is done.
            if connection.scalar(result) is None:
                connection.execute(trouble(row))

    def close(self, batch: str, cancelled: bool) -> BatchReport | None:
        """
        Note how a batch ended; None when something is left to do.
        """
        with self.store.write() as connection:
            _alone(connection, batch)
            report = self._count(connection, batch, cancelled)
            sealed = connection.scalar(
                sa.select(batches.c.sealed).where(batches.c.id == batch)
            )
            left = report.items - report.done - report.dead
            if not cancelled and (left > 0 or not sealed):
                return None
            ended = {
                "state": CANCELLED if cancelled else COMPLETED,
                "finished_at": self._clock(),
            }
            line = sa.update(batches).where(batches.c.id == batch)
            connection.execute(line.values(ended))
        return report

    def count(self, batch: str) -> BatchReport:
        """
        Count a batch as it is now.
        """
        with self.store.read() as connection:
            return self._count(connection, batch, cancelled=False)

    def _count(
        self, connection: sa.Connection, batch: str, cancelled: bool
    ) -> BatchReport:
        done = sa.select(sa.func.count()).where(item_results.c.batch == batch)
        dead = COUNT_DEAD.where(item_troubles.c.batch == batch)
        total = sa.select(batches.c.total).where(batches.c.id == batch)
        return BatchReport(
            batch=batch,
            items=int(connection.scalar(total) or 0),
            done=int(connection.scalar(done) or 0),
            dead=int(connection.scalar(dead) or 0),
            cancelled=cancelled,
        )

    def failing(self, batch: str) -> int:
        """
        Count the items that have failed and are to be tried again.
        """
        query = sa.select(sa.func.count()).select_from(item_troubles)
        query = query.where(
            item_troubles.c.batch == batch,
            item_troubles.c.dead_at.is_(None),
            ~sa.exists().where(
                item_results.c.batch == item_troubles.c.batch,
                item_results.c.item == item_troubles.c.item,
            ),
        )
        with self.store.read() as connection:
            return int(connection.scalar(query) or 0)

    def find(self, batch: str) -> Entry | None:
        """
        Look one batch up.
        """
        return next(iter(self.entries(batch)), None)

    def entries(self, batch: str | None = None) -> list[Entry]:
        """
        List the batches, the newest first.
        """
        query = sa.select(batches).order_by(batches.c.accepted_at.desc())
        if batch is not None:
            query = query.where(batches.c.id == batch)
        with self.store.read() as connection:
            return [Entry(*row) for row in connection.execute(query)]

    def results(
        self, batch: str, after: int = 0, page: int = 2_000
    ) -> Iterator[tuple[int, str, str | None]]:
        """
        Tell the results there are, in the order of their items: number, JSON text,
        and why it is less than was asked.
        """
        query = sa.select(item_results).where(item_results.c.batch == batch)
        query = query.order_by(item_results.c.item).limit(page)
        while True:
            with self.store.read() as connection:
                rows = connection.execute(query.where(item_results.c.item > after))
                found = rows.all()
            if not found:
                return
            for row in found:
                yield row.item, row.result, row.degraded
            after = found[-1].item

    def harvest(self, batch: str, after: int, page: int = 500) -> list[Harvested]:
        """
        Read settled items past *after*, with what became of them.
        """
        query = (
            sa.select(
                items.c.item,
                items.c.body,
                item_results.c.result,
                item_results.c.degraded,
                item_troubles.c.cause,
            )
            .outerjoin(item_results, _same(item_results))
            .outerjoin(
                item_troubles,
                _same(item_troubles) & item_troubles.c.dead_at.is_not(None),
            )
            .where(items.c.batch == batch, items.c.item > after)
            .where(item_results.c.item.is_not(None) | item_troubles.c.item.is_not(None))
            .order_by(items.c.item)
            .limit(page)
        )
        with self.store.read() as connection:
            rows = connection.execute(query).all()
        return [
            Harvested(
                row.item,
                json.loads(row.body),
                json.loads(row.result) if row.result is not None else None,
                row.degraded,
                row.cause if row.result is None else None,
            )
            for row in rows
        ]

    def dead_letters(self, batch: str | None = None) -> Iterator[DeadLetter]:
        """
        Tell the items that were given up.
        """
        query = (
            sa.select(item_troubles, items.c.body)
            .join(items, _same(item_troubles))
            .where(item_troubles.c.dead_at.is_not(None))
            .order_by(item_troubles.c.batch, item_troubles.c.item)
        )
        if batch is not None:
            query = query.where(item_troubles.c.batch == batch)
        with self.store.read() as connection:
            for row in connection.execute(query).all():
                yield DeadLetter(
                    row.batch,
                    row.item,
                    json.loads(row.body),
                    row.cause,
                    row.failures,
                    row.deaths,
                )

    def redrive(self, batch: str, item: int | None, cause: str | None) -> int:
        """
        Take dead letters back, all or those of one item or with *cause* in their
        cause; returns how many.
        """
        chosen = [item_troubles.c.batch == batch, item_troubles.c.dead_at.is_not(None)]
        if item is not None:
            chosen.append(item_troubles.c.item == item)
        if cause is not None:
            chosen.append(item_troubles.c.cause.contains(cause, autoescape=True))
        with self.store.write() as connection:
            gone = connection.execute(sa.delete(item_troubles).where(*chosen)).rowcount
            if gone:
                line = sa.update(batches).where(batches.c.id == batch)
                connection.execute(line.values(state=OPEN, finished_at=None))
        return gone

    def forget(self, batch: str) -> bool:
        """
        Erase a batch and its effects; returns whether there was one.
        """
        with self.store.write() as connection:
            connection.execute(sa.delete(effects).where(effects.c.mission == batch))
            return erase(connection, batch)

    def prune(self, older_than_s: float) -> list[str]:
        """
        Forget batches that finished so long ago. Effects stay: they keep what was
        done once from being done twice.
        """
        before = self._clock() - older_than_s
        query = sa.select(batches.c.id).where(batches.c.finished_at < before)
        with self.store.write() as connection:
            old = list(connection.scalars(query))
            for batch in old:
                erase(connection, batch)
        return old


def erase(connection: sa.Connection, batch: str) -> bool:
    """
    Delete a batch with all that its items have left; returns whether there was one.
    """
    for table in (items, item_results, item_troubles):
        connection.execute(sa.delete(table).where(table.c.batch == batch))
    for table in (attempts, blobs, checkpoints, claims, refusals, spending):
        connection.execute(sa.delete(table).where(table.c.mission == batch))
    gone = connection.execute(sa.delete(batches).where(batches.c.id == batch))
    return bool(gone.rowcount)


def _alone(connection: sa.Connection, batch: str) -> int:
    """
    Keep everybody else from settling and adding items of *batch* until this
    transaction ends; returns the number of its last item.
    """
    query = sa.select(batches.c.total).where(batches.c.id == batch).with_for_update()
    return int(connection.scalar(query) or 0)


def _same(table: sa.Table) -> sa.ColumnElement[bool]:
    """
    The condition that a row of *table* belongs to an item.
    """
    return sa.and_(table.c.batch == items.c.batch, table.c.item == items.c.item)


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
    }
    return fresh.on_conflict_do_update(index_elements=["batch", "item"], set_=more)


def _larger(
    old: sa.ColumnElement[int], new: sa.ColumnElement[int]
) -> sa.ColumnElement[int]:
    return sa.case((old > new, old), else_=new)
