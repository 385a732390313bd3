"""
A batch: which leases are in flight, and when none is left to dispatch.

The history holds ranges, never items; results are in the store, so that a redispatched
lease continues where its last attempt stopped.
"""

import asyncio
from collections import deque

from temporalio import workflow

from outlast.contracts.batches import (
    FIRST_LEASE_ITEMS,
    MAX_LEASES,
    BatchReport,
    ItemRange,
    Lease,
    LeaseState,
    PendingItems,
    PoolProgress,
    PoolState,
)
from outlast.workflows.batch_context import BatchContext
from outlast.workflows.faults import cause_of
from outlast.workflows.lease_dispatch import LeaseDispatch

# Two leases of half of the remaining items end sooner than one of all of them.
REMAINING_SHARE = 4


class BatchLoop:
    """
    The leases of one batch, from where an earlier run of its workflow left it.
    """

    def __init__(self, state: PoolState) -> None:
        self.context = BatchContext(state)
        self.woken = False
        self._items = 0
        self._closed = False
        self._pending: deque[ItemRange] = deque()
        # A dict, not a set: a replay must cancel the tasks in the same order.
        self._in_flight: dict[asyncio.Task[None], None] = {}

    @property
    def progress(self) -> PoolProgress:
        return PoolProgress(
            batch=self.context.batch.id,
            settled=self.context.state.settled,
            dead=self.context.state.dead,
            leases=len(self._in_flight),
            lease_size=self.context.state.lease_size,
            events=self.context.events,
        )

    async def run(self) -> BatchReport:
        for each in self.context.state.leases:
            self.start(each)
        while True:
            renewing = self.context.renewal.is_needed
            if renewing:
                await self._renew()
            else:
                await self._fill_window()
            if self.context.stopped or self.context.failed:
                return await self.end()
            if not self._in_flight and not self._pending and self._at_end():
                report = await self.context.close(cancelled=False)
                if report is not None:
                    return report
                # Items were added or lost since: read again.
                self.context.update(read_up_to=0)
                continue
            await self._wait_for_work(renewing)

    def start(self, lease: LeaseState) -> None:
        task = asyncio.create_task(
            self._recording_faults(LeaseDispatch(self.context, lease, self.start))
        )
        self._in_flight[task] = None
        task.add_done_callback(self._in_flight.pop)

    async def end(self) -> BatchReport:
        """
        Cancel in-flight leases and count the results.
        """
        self.context.stopped = self.context.stopped or self.context.failed
        for task in list(self._in_flight):
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        report = await self.context.close(cancelled=True)
        assert report is not None  # a cancelled batch is closed whatever is left
        return report.model_copy(update={"failed": self.context.failed})

    async def _renew(self) -> None:
        """
        Give leases some time to end, then hand back the rest, since an item may last
        for days. Handing back counts neither as a failure nor as a crash.
        """
        renewal = self.context.renewal
        if not self._in_flight:
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(self._next_state())
        if not renewal.due:
            renewal.begin()
        elif renewal.must_hand_back:
            renewal.handed_back = True
            for task in self.context.dispatched:
                task.cancel()

    async def _wait_for_work(self, renewing: bool) -> None:
        """
        Wait until there is a lease to dispatch, none is left, or the batch is stopped.
        """
        had = bool(self._in_flight)

        def is_due() -> bool:
            if (
                self.context.stopped
                or self.context.failed
                or (had and not self._in_flight)
            ):
                return True
            if renewing:
                return self.context.renewal.must_hand_back
            return self._has_free_window() and (bool(self._pending) or self.woken)

        await workflow.wait_condition(is_due)

    def _at_end(self) -> bool:
        return self._closed and self.context.state.read_up_to >= self._items

    def _has_free_window(self) -> bool:
        return len(self._in_flight) - self.context.redispatching < MAX_LEASES

    async def _fill_window(self) -> None:
        while (
            self._has_free_window()
            and not self.context.stopped
            and await self._load_ranges()
        ):
            lease = self._next_lease()
            self.start(LeaseState(lease=lease, died_at=workflow.time()))

    async def _load_ranges(self) -> bool:
        """
        Load ranges of items that are left to do; False when there are none now.
        """
        while not self._pending:
            seen_all = self._items and self.context.state.read_up_to >= self._items
            if (seen_all or self._at_end()) and not self.woken:
                return False
            self.woken = False
            found = await self.context.read(
                PendingItems,
                "pending_items",
                self.context.batch.id,
                self.context.state.read_up_to,
            )
            assert found is not None
            self._pending.extend(found.ranges)
            self.context.update(read_up_to=found.up_to)
            self._items, self._closed = found.items, found.closed
            if not found.ranges and found.up_to >= found.items:
                return False
        return True

    def _next_lease(self) -> Lease:
        span = self._pending.popleft()
        size = self.context.state.lease_size
        if self._closed:
            left = (
                max(self._items - self.context.state.read_up_to, 0)
                + span.stop
                - span.start
            )
            size = min(size, max(FIRST_LEASE_ITEMS, left // REMAINING_SHARE))
        stop = min(span.stop, span.start + size)
        if stop < span.stop:
            self._pending.appendleft(ItemRange(start=stop, stop=span.stop))
        return Lease(
            batch=self.context.batch, span=ItemRange(start=span.start, stop=stop)
        )

    async def _recording_faults(self, lease: LeaseDispatch) -> None:
        """
        Run *lease*; a fault of ours ends the batch, since nothing awaits this task's
        exception.
        """
        try:
            await lease.run()
        except Exception as error:
            self.context.failed = self.context.failed or cause_of(error)

    def _next_state(self) -> PoolState:
        # The next run surveys the rest of the pending ranges again.
        read = (
            self._pending[0].start - 1
            if self._pending
            else self.context.state.read_up_to
        )
        changes = {
            "read_up_to": read,
            "events": self.context.events,
            "dispatches": self.context.numbers.last,
            "leases": self.context.handed_back,
        }
        return self.context.state.model_copy(update=changes)
