"""
Batches: one row each, from its opening until it is closed or forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.batches import Batch, BatchReport
from outlast.contracts.errors import BadInputError
from outlast.store.database import Store
from outlast.store.schema import batches, item_failures, item_results
from outlast.store.upsert import insert_if_absent

OPEN, COMPLETED, CANCELLED = "open", "completed", "cancelled"
# Ended from outside, as in Temporal's web page: it waits for `resume`.
INTERRUPTED = "interrupted"

LOCK_BATCH = (
    sa.select(batches.c.total)
    .where(batches.c.id == sa.bindparam("of_batch"))
    .with_for_update()
)


@dataclass(frozen=True)
class BatchRecord:
    """
    One batch's row.
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
            connection.execute(_change(batch.id).values(again))

    def interrupt(self, batch: str) -> None:
        change = _change(batch).where(batches.c.state == OPEN)
        self.store.change(change.values(state=INTERRUPTED))

    def resume(self, batch: str) -> None:
        change = _change(batch).where(batches.c.state == INTERRUPTED)
        self.store.change(change.values(state=OPEN))

    def close_input(self, batch: str) -> None:
        """
        Note, durably, that no more items will come.
        """
        self.store.change(_change(batch).values(closed=True))

    def find(self, batch: str) -> BatchRecord | None:
        return next(iter(self.records(batch)), None)

    def records(self, batch: str | None = None) -> list[BatchRecord]:
        query = sa.select(batches).order_by(batches.c.accepted_at.desc())
        if batch is not None:
            query = query.where(batches.c.id == batch)
        return [BatchRecord(**row._mapping) for row in self.store.rows(query)]

    def open_batches(self) -> list[str]:
        query = sa.select(batches.c.id).where(batches.c.state == OPEN)
        return [row.id for row in self.store.rows(query)]

    def count(self, batch: str) -> BatchReport:
        with self.store.read() as connection:
            return _count(connection, batch, cancelled=False)

    def failing(self, batch: str) -> int:
        query = sa.select(sa.func.count()).where(
            item_failures.c.batch == batch,
            item_failures.c.dead_at.is_(None),
            ~sa.exists().where(
                item_results.c.batch == item_failures.c.batch,
                item_results.c.item == item_failures.c.item,
            ),
        )
        return int(self.store.scalar(query) or 0)

    def close(self, batch: str, cancelled: bool) -> BatchReport | None:
        """
        Note how a batch ended; None when something is left to do.
        """
        with self.store.write() as connection:
            lock_batch(connection, batch)
            report = _count(connection, batch, cancelled)
            closed = connection.scalar(
                sa.select(batches.c.closed).where(batches.c.id == batch)
            )
            left = report.items - report.done - report.dead
            if not cancelled and (left > 0 or not closed):
                return None
            state = CANCELLED if cancelled else COMPLETED
            ended = _change(batch).values(state=state, finished_at=self._clock())
            connection.execute(ended)
        return report


def _change(batch: str) -> sa.Update:
    return sa.update(batches).where(batches.c.id == batch)


def _count(connection: sa.Connection, batch: str, cancelled: bool) -> BatchReport:
    done = sa.select(sa.func.count()).where(item_results.c.batch == batch)
    dead = sa.select(sa.func.count()).where(
        item_failures.c.batch == batch, item_failures.c.dead_at.is_not(None)
    )
    total = sa.select(batches.c.total).where(batches.c.id == batch)
    return BatchReport(
        batch=batch,
        items=int(connection.scalar(total) or 0),
        done=int(connection.scalar(done) or 0),
        dead=int(connection.scalar(dead) or 0),
        cancelled=cancelled,
    )


def batch_row(batch: Batch, now: float) -> dict[str, Any]:
    return {
        "id": batch.id,
        "tenant": batch.tenant,
        "role": batch.role,
        "state": OPEN,
        "closed": False,
        "total": 0,
        "accepted_at": now,
    }


def lock_batch(connection: sa.Connection, batch: str) -> int:
    """
    Keep other transactions from writing results and adding items of *batch* until
    this one ends; returns the number of its last item.
    """
    return int(connection.scalar(LOCK_BATCH, {"of_batch": batch}) or 0)
