"""
The results and dead letters of items, and the way to redrive those.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.sizes import MIB
from outlast.ledger.batches import OPEN
from outlast.ledger.payloads import is_stored, load_if_stored
from outlast.store.database import Store
from outlast.store.schema import batches, item_failures, item_results, items

# What one page of items and results holds at most, and one more.
RESULTS_PAGE_BYTES = 16 * MIB


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
    traceback: str | None = None  # of what its agent raised last


@dataclass(frozen=True)
class ItemResult:
    """
    An item and what became of it.
    """

    item: int
    input: JsonValue
    result: JsonValue
    degraded: str | None
    dead: str | None  # why there is no result


class ItemResults:
    """
    What is settled in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def results(
        self, batch: str, after: int = 0, page: int = 2_000
    ) -> Iterator[tuple[int, str, str | None]]:
        """
        Read the results there are, in the order of their items: number, JSON text,
        and why it is less than was asked.
        """
        query = sa.select(item_results).where(item_results.c.batch == batch)
        query = query.order_by(item_results.c.item).limit(page)
        while found := self.store.rows(query.where(item_results.c.item > after)):
            for row in found:
                yield row.item, self._full_body(batch, row.result), row.degraded
            after = found[-1].item

    def tenant_of(self, batch: str) -> str | None:
        query = sa.select(batches.c.tenant).where(batches.c.id == batch)
        found: str | None = self.store.scalar(query)
        return found

    def settled_after(
        self, batch: str, after: int, page: int = 500
    ) -> list[ItemResult]:
        """
        Read settled items past *after*, with what became of them: a page of them, or
        fewer where they are large.
        """
        query = (
            sa.select(
                items.c.item,
                items.c.body,
                item_results.c.result,
                item_results.c.degraded,
                item_failures.c.cause,
            )
            .outerjoin(item_results, _same(item_results))
            .outerjoin(
                item_failures,
                _same(item_failures) & item_failures.c.dead_at.is_not(None),
            )
            .where(items.c.batch == batch, items.c.item > after)
            .where(item_results.c.item.is_not(None) | item_failures.c.item.is_not(None))
            .order_by(items.c.item)
            .limit(page)
        )
        found: list[ItemResult] = []
        room = RESULTS_PAGE_BYTES
        with self.store.read() as connection:
            for row in connection.execute(query).all():
                body = load_if_stored(connection, batch, row.body)
                result = load_if_stored(connection, batch, row.result or "")
                value = json.loads(result) if result else None
                cause = None if result else row.cause
                given = json.loads(body)
                found.append(ItemResult(row.item, given, value, row.degraded, cause))
                room -= len(body) + len(result)
                if room < 0:
                    break
        return found

    def _full_body(self, batch: str, text: str) -> str:
        if not is_stored(text):
            return text
        with self.store.read() as connection:
            return load_if_stored(connection, batch, text)

    def dead_letters(self, batch: str | None = None) -> Iterator[DeadLetter]:
        query = (
            sa.select(item_failures, items.c.body)
            .join(items, _same(item_failures))
            .where(item_failures.c.dead_at.is_not(None))
            .order_by(item_failures.c.batch, item_failures.c.item)
        )
        if batch is not None:
            query = query.where(item_failures.c.batch == batch)
        with self.store.read() as connection:
            for row in connection.execute(query).all():
                yield DeadLetter(
                    row.batch,
                    row.item,
                    json.loads(load_if_stored(connection, row.batch, row.body)),
                    row.cause,
                    row.failures,
                    row.deaths,
                    row.traceback,
                )

    def redrive(self, batch: str, item: int | None, cause: str | None) -> int:
        """
        Delete dead letters, so that their items are tried again: all, or those of one
        item, or those with *cause* in their cause; returns how many.
        """
        chosen = [item_failures.c.batch == batch, item_failures.c.dead_at.is_not(None)]
        if item is not None:
            chosen.append(item_failures.c.item == item)
        if cause is not None:
            chosen.append(item_failures.c.cause.contains(cause, autoescape=True))
        with self.store.write() as connection:
            gone = connection.execute(sa.delete(item_failures).where(*chosen)).rowcount
            if gone:
                reopen = sa.update(batches).where(batches.c.id == batch)
                connection.execute(reopen.values(state=OPEN, finished_at=None))
        return gone


def _same(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.batch == items.c.batch, table.c.item == items.c.item)
