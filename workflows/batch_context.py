"""
What the leases of a batch have in common: its counts, its calls to the ledger, and
whether it is stopped.
"""

import asyncio
from typing import Any, TypeVar

from temporalio import workflow

from outlast.contracts.batches import (
    POOL_CONTINUE_AS_NEW_EVENTS,
    BatchReport,
    Lease,
    LeaseResult,
    LeaseState,
    PendingItems,
    PoisonItem,
    PoolState,
    next_lease_size,
)
from outlast.contracts.wire import WireModel
from outlast.workflows.bookkeeping import (
    BATCH_BOOKKEEPING_LIMIT,
    parent_run,
    start_bookkeeping,
)
from outlast.workflows.cancellation import await_uncancelled
from outlast.workflows.dispatch import DispatchNumbers
from outlast.workflows.renewal import Renewal

M = TypeVar("M", bound=WireModel)


class BatchContext:
    """
    One batch, from where an earlier run of its workflow left it.
    """

    def __init__(self, state: PoolState) -> None:
        self.batch = state.batch
        self.state = state  # counts of what was done, and how far it was read
        self.numbers = DispatchNumbers(state.dispatches)
        self.renewal = Renewal(POOL_CONTINUE_AS_NEW_EVENTS)
        self.mean_item_s = 0.0
        self.redispatching = 0  # quarantined leases between two attempts
        self.stopped: str | None = None
        self.failed: str | None = None
        # Leases that were handed back since the history is full.
        self.handed_back: list[LeaseState] = []
        # A dict, not a set: a replay must cancel the tasks in the same order.
        self.dispatched: dict[asyncio.Task[Any], None] = {}

    @property
    def events(self) -> int:
        return self.state.events + workflow.info().get_current_history_length()

    def record_lease(self, lease: Lease, result: LeaseResult) -> None:
        """
        Count a lease that has ended, and size the next ones by its items' duration.
        """
        # Count the whole lease: all of it was left to do when it was first dispatched,
        # also items that another attempt has ended since.
        items = lease.span.stop - lease.span.start - len(lease.skip)
        self._count(settled=items, dead=result.dead)
        if result.settled and not lease.quarantined:
            size = next_lease_size(self.state.lease_size, result.item_s)
            self.update(lease_size=size)
            # 0 when all of it failed
            self.mean_item_s = result.item_s or self.mean_item_s
        workflow.set_current_details(
            f"{self.state.settled} settled, {self.state.dead} dead letters, "
            f"leases of {self.state.lease_size} items"
        )

    async def dead_letter(self, item: PoisonItem) -> None:
        is_dead = await self._record("dead_letter_item", item)
        self._count(settled=1, dead=bool(is_dead))

    async def close(self, cancelled: bool) -> BatchReport | None:
        report = await self.read(
            BatchReport, "record_batch_closed", self.batch.id, cancelled, *parent_run()
        )
        return report and report.model_copy(update={"events": self.events})

    async def read(self, kind: type[M], activity: str, *args: Any) -> M | None:
        """
        Call the ledger's *activity* again where a client completed it from outside.
        """
        while True:
            found = await self._record(activity, *args)
            if found is None and kind is not PendingItems:
                return None
            if (read := kind.read(found)) is not None:
                return read

    async def _record(self, activity: str, *args: Any) -> Any:
        """
        Call the ledger's *activity* for as long as a person may need to repair a store.
        """
        keeping = start_bookkeeping(activity, *args, limit=BATCH_BOOKKEEPING_LIMIT)
        # Cancelling a batch must not lose its counts.
        await await_uncancelled(keeping, on_cancel=self._stop)
        return keeping.result()

    def _stop(self) -> None:
        self.stopped = self.stopped or "cancelled"

    def update(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)

    def _count(self, settled: int, dead: int) -> None:
        before = self.state
        self.update(settled=before.settled + settled, dead=before.dead + dead)
