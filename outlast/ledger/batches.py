"""
Batches: one line each, from its opening until it is closed or forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.batches import Batch, BatchReport
from outlast.contracts.errors import BadInputError
from outlast.ledger.effects import mission_clause
from outlast.store.database import Store
from outlast.store.schema import (
    attempts,
    batches,
    checkpoints,
    effects,
    fences,
    item_failures,
    item_results,
    items,
    payloads,
    spending,
    stale_writes,
)
from outlast.store.upsert import insert_if_absent

OPEN, COMPLETED, CANCELLED = "open", "completed", "cancelled"
# Somebody else has ended its workflow: it waits for `resume`.
INTERRUPTED = "interrupted"

COUNT_DEAD_ITEMS = (
    sa.select(sa.func.count())
    .select_from(item_failures)
    .where(item_failures.c.dead_at.is_not(None))
)


@dataclass(frozen=True)
class BatchRecord:
    """
    One batch's line.
    """

    id: str
    tenant: str
    role: str
    state: str
    closed: bool
    total: int
    accepted_at: float
    finished_at: float | None


class BatchRecords:
    """
    The batches in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self.store = store
        self._clock = clock or store.clock

    def open_batch(self, batch: Batch) -> None:
        """
        Enter *batch*, or open it again for more items.

        :raises BadInputError: when the id belongs to a batch for another agent.
        """
        row = batch_row(batch, self._clock())
        with self.store.write() as connection:
            if insert_if_absent(connection, batches, row):
                return
            found = connection.execute(
                sa.select(batches).where(batches.c.id == batch.id)
            ).one()
            if (found.role, found.tenant) != (batch.role, batch.tenant):
                raise BadInputError(
                    f"batch {batch.id!r} is for agent {found.role!r} of tenant "
                    f"{found.tenant!r}; choose another id"
                )
            again = {"state": OPEN, "closed": False, "finished_at": None}
            line = sa.update(batches).where(batches.c.id == batch.id)
            connection.execute(line.values(again))

    def interrupt(self, batch: str) -> None:
        """
        Note that somebody else has ended the batch's workflow.
        """
        self._change_state(batch, OPEN, INTERRUPTED)

    def resume(self, batch: str) -> None:
        """
        Note that an interrupted batch is worked on again.
        """
        self._change_state(batch, INTERRUPTED, OPEN)

    def _change_state(self, batch: str, before: str, after: str) -> None:
        with self.store.write() as connection:
            line = sa.update(batches).where(
                batches.c.id == batch, batches.c.state == before
            )
            connection.execute(line.values(state=after))

    def close_input(self, batch: str) -> None:
        """
        Note, durably, that no more items will come.
        """
        with self.store.write() as connection:
            line = sa.update(batches).where(batches.c.id == batch)
            connection.execute(line.values(closed=True))

    def find(self, batch: str) -> BatchRecord | None:
        """
        Look one batch up.
        """
        return next(iter(self.records(batch)), None)

    def records(self, batch: str | None = None) -> list[BatchRecord]:
        """
        List the batches, the newest first.
        """
        query = sa.select(batches).order_by(batches.c.accepted_at.desc())
        if batch is not None:
            query = query.where(batches.c.id == batch)
        with self.store.read() as connection:
            return [BatchRecord(*row) for row in connection.execute(query)]

    def open_batches(self) -> list[str]:
        """
        List the batches that are under way.
        """
        query = sa.select(batches.c.id).where(batches.c.state == OPEN)
        with self.store.read() as connection:
            return list(connection.scalars(query))

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
        dead = COUNT_DEAD_ITEMS.where(item_failures.c.batch == batch)
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
        query = sa.select(sa.func.count()).select_from(item_failures)
        query = query.where(
            item_failures.c.batch == batch,
            item_failures.c.dead_at.is_(None),
            ~sa.exists().where(
                item_results.c.batch == item_failures.c.batch,
                item_results.c.item == item_failures.c.item,
            ),
        )
        with self.store.read() as connection:
            return int(connection.scalar(query) or 0)

    def close(self, batch: str, cancelled: bool) -> BatchReport | None:
        """
        Note how a batch ended; None when something is left to do.
        """
        with self.store.write() as connection:
            lock_batch(connection, batch)
            report = self._count(connection, batch, cancelled)
            closed = connection.scalar(
                sa.select(batches.c.closed).where(batches.c.id == batch)
            )
            left = report.items - report.done - report.dead
            if not cancelled and (left > 0 or not closed):
                return None
            ended = {
                "state": CANCELLED if cancelled else COMPLETED,
                "finished_at": self._clock(),
            }
            line = sa.update(batches).where(batches.c.id == batch)
            connection.execute(line.values(ended))
        return report

    def forget(self, batch: str) -> bool:
        """
        Erase a batch and its effects; returns whether there was one.
        """
        with self.store.write() as connection:
            connection.execute(sa.delete(effects).where(mission_clause(batch)))
            return delete_batch(connection, batch)

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
                delete_batch(connection, batch)
        return old


def batch_row(batch: Batch, now: float) -> dict[str, Any]:
    """
    Make the line of a batch that has no items yet.
    """
    return {
        "id": batch.id,
        "tenant": batch.tenant,
        "role": batch.role,
        "state": OPEN,
        "closed": False,
        "total": 0,
        "accepted_at": now,
    }


def delete_batch(connection: sa.Connection, batch: str) -> bool:
    """
    Delete a batch with all that its items have left; returns whether there was one.

    Its runs stay: the id may be used again, and no run may have the number of another.
    """
    for table in (items, item_results, item_failures):
        connection.execute(sa.delete(table).where(table.c.batch == batch))
    for table in (attempts, checkpoints, fences, payloads, stale_writes, spending):
        connection.execute(sa.delete(table).where(table.c.mission == batch))
    gone = connection.execute(sa.delete(batches).where(batches.c.id == batch))
    return bool(gone.rowcount)


def lock_batch(connection: sa.Connection, batch: str) -> int:
    """
    Keep everybody else from settling and adding items of *batch* until this
    transaction ends; returns the number of its last item.
    """
    query = sa.select(batches.c.total).where(batches.c.id == batch).with_for_update()
    return int(connection.scalar(query) or 0)
