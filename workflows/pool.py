"""
The pool: dispatch the items of a batch in leases, redispatch a lease after every crash,
dead-letter a poison item.

The history holds ranges, never items; results are in the store, so that a redispatched
lease continues where its last attempt stopped.
"""

import asyncio
from collections import deque
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.batches import (
        FIRST_LEASE_ITEMS,
        MAX_LEASES,
        POOL_CONTINUE_AS_NEW_EVENTS,
        BatchReport,
        ItemRange,
        Lease,
        LeaseResult,
        PendingItems,
        PoisonItem,
        PoolProgress,
        PoolState,
        next_lease_size,
    )
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.ids import MISSIONS_QUEUE
    from outlast.contracts.retries import BACKOFF_CAP_S, BACKOFF_FIRST_S
    from outlast.contracts.text import CAUSE_CHARS, one_line
    from outlast.workflows.bookkeeping import failure_of_batch, parent_run
    from outlast.workflows.entry import NOTHING, nothing_to_do, read_state, refusal
    from outlast.workflows.failure import Action, FailureDecision, classify_failure
    from outlast.workflows.faults import FAULTS, cause_of
    from outlast.workflows.lease_dispatch import LeaseDispatch, dispatch
    from outlast.workflows.renewal import GRACE_S
    from outlast.workflows.task_dispatch import (
        REDISPATCH,
        RETURNS_WORK,
        DispatchNumbers,
        Supersession,
    )

POOL_RECORD_LIMIT = timedelta(seconds=60)
POOL_RECORD_ATTEMPTS = 100_000
RENEWAL_WAIT_S = 1.0
# Two leases of half of the remaining items end sooner than one of all of them.
REMAINING_SHARE = 4


@workflow.defn(name="Pool", failure_exception_types=FAULTS)
class PoolWorkflow:
    """
    One batch, until none of its items is left to do.
    """

    @workflow.init
    def __init__(self, given: RawValue = NOTHING) -> None:
        self.refused: BadInputError | None = None
        try:
            state = read_state(given)
        except BadInputError as error:
            self.refused = error
            state = nothing_to_do()
        self.batch = state.batch
        self.state = state
        self.lease_size = state.lease_size
        self.settled = state.settled
        self.dead = state.dead
        self.read_up_to = state.read_up_to
        self.numbers = DispatchNumbers(state.dispatches)
        self.items = 0
        self.mean_item_s = 0.0
        self.closed = False
        self.pending: deque[ItemRange] = deque()
        # A dict, not a set: a replay must cancel the tasks in the same order.
        self.in_flight: dict[asyncio.Task[None], None] = {}
        self.redispatching = 0  # quarantined leases between two attempts
        self.woken = False
        # While the history is full: how long leases may take to end, those that are
        # dispatched, and those that were handed back since.
        self.grace: asyncio.Task[None] | None = None
        self.dispatched: dict[asyncio.Task[Any], None] = {}
        self.handed_back: list[LeaseDispatch] | None = None
        self.stopped: str | None = None
        self.failed: str | None = None

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> BatchReport:
        if self.refused is not None:
            raise refusal(self.refused)
        try:
            report = await self._run()
        except asyncio.CancelledError:
            # Cancelled from outside: the results so far are kept and counted all the
            # same.
            self.stopped = "cancelled"
            report = await self._end()
        except (FailureError, workflow.NondeterminismError):
            raise
        except Exception as error:
            self.failed = cause_of(error)
            report = await self._end()
        if report.failed:
            raise failure_of_batch(report)
        return report

    @workflow.query
    def progress(self) -> PoolProgress:
        return PoolProgress(
            batch=self.batch.id,
            settled=self.settled,
            dead=self.dead,
            leases=len(self.in_flight),
            lease_size=self.lease_size,
            events=self._events(),
        )

    @workflow.signal
    def wake(self) -> None:
        """
        Read the batch again: items were added, or no more will come.
        """
        self.woken = True

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the batch: cancel in-flight leases, keep the results so far.
        """
        self.stopped = one_line(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        if self.stopped:
            raise ValueError("the batch is being cancelled already")

    async def _run(self) -> BatchReport:
        for each in self.state.leases:
            self._start(LeaseDispatch.restore(each))
        while True:
            renewing = self._renewing()
            if renewing and not self.in_flight:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._next_state())
            if renewing:
                self._hand_back()
            if not renewing:
                await self._fill_window()
            if self.stopped or self.failed:
                return await self._end()
            if not self.in_flight and not self.pending and self._at_end():
                report = await self._close(cancelled=False)
                if report is not None:
                    return report
                self.read_up_to = 0  # items were added or lost since: read again
                continue
            await self._wait_for_work(renewing)

    def _hand_back(self) -> None:
        """
        Give leases some time to end, then hand back the rest, since an item may last
        for days. Handing back counts neither as a failure nor as a crash.
        """
        if self.grace is None:
            self.grace = asyncio.create_task(workflow.sleep(GRACE_S))
        elif self.grace.done() and self.handed_back is None:
            self.handed_back = []
            for task in self.dispatched:
                task.cancel()

    async def _wait_for_work(self, renewing: bool) -> None:
        """
        Wait until there is a lease to dispatch, none is left, or the batch is stopped.
        """
        had = bool(self.in_flight)

        def due() -> bool:
            more = bool(self.pending) or self.woken
            free = self._has_free_window() and not renewing
            late = renewing and self.grace is not None and self.grace.done()
            if late and self.handed_back is None:
                return True
            return bool(
                self.stopped or self.failed or (had and not self.in_flight)
            ) or (more and free)

        await workflow.wait_condition(due)

    def _at_end(self) -> bool:
        return self.closed and self.read_up_to >= self.items

    def _renewing(self) -> bool:
        return (
            workflow.info().get_current_history_length() > POOL_CONTINUE_AS_NEW_EVENTS
        )

    def _has_free_window(self) -> bool:
        return len(self.in_flight) - self.redispatching < MAX_LEASES

    async def _fill_window(self) -> None:
        """
        Dispatch leases until the window is full or nothing is left to dispatch.
        """
        while (
            self._has_free_window() and not self.stopped and await self._load_ranges()
        ):
            self._start(LeaseDispatch(self._next_lease(), died_at=workflow.time()))

    async def _load_ranges(self) -> bool:
        """
        Load ranges of items that are left to do; False when there are none now.
        """
        while not self.pending:
            seen_all = self.items and self.read_up_to >= self.items
            if (seen_all or self._at_end()) and not self.woken:
                return False
            self.woken = False
            found: PendingItems = await self._record(
                "pending_items", self.batch.id, self.read_up_to, result=PendingItems
            )
            self.pending.extend(found.ranges)
            self.read_up_to = found.up_to
            self.items, self.closed = found.items, found.closed
            if not found.ranges and found.up_to >= found.items:
                return False
        return True

    def _next_lease(self) -> Lease:
        span = self.pending.popleft()
        size = self.lease_size
        if self.closed:
            left = max(self.items - self.read_up_to, 0) + span.stop - span.start
            size = min(size, max(FIRST_LEASE_ITEMS, left // REMAINING_SHARE))
        stop = min(span.stop, span.start + size)
        if stop < span.stop:
            self.pending.appendleft(ItemRange(start=stop, stop=span.stop))
        return Lease(batch=self.batch, span=ItemRange(start=span.start, stop=stop))

    def _start(self, lease_dispatch: LeaseDispatch) -> None:
        task = asyncio.create_task(self._recording_faults(lease_dispatch))
        self.in_flight[task] = None
        task.add_done_callback(self.in_flight.pop)

    async def _recording_faults(self, lease_dispatch: LeaseDispatch) -> None:
        """
        Run *lease_dispatch*; a fault of ours ends the batch, since nothing awaits this
        task's exception.
        """
        try:
            await self._run_lease(lease_dispatch)
        except Exception as error:
            self.failed = self.failed or cause_of(error)

    async def _run_lease(self, lease_dispatch: LeaseDispatch) -> None:
        """
        Redispatch a lease after every crash, until all its items have ended.
        """
        superseded = Supersession(self.numbers)
        while not self._is_over(lease_dispatch):
            started_at = workflow.time()
            verdict = await self._dispatch(lease_dispatch.lease)
            if verdict is None:
                return
            lease_dispatch.redispatch()
            if self._is_handed_back(verdict):
                continue
            if verdict.next is Action.REDISPATCH_CRASHED:
                for each in lease_dispatch.record_crash(verdict, workflow.time()):
                    self._start(LeaseDispatch(each, died_at=workflow.time()))
                if lease_dispatch.is_poison:
                    await self._dead_letter(lease_dispatch, verdict)
                    return
                if lease_dispatch.is_over_limit:
                    self.failed = f"leases die again and again: {verdict.cause}"
                else:
                    await self._wait(lease_dispatch, workflow.time() - started_at)
            elif verdict.next not in (*REDISPATCH, Action.SKIP):
                self.failed = verdict.cause
            if self.failed:
                return
            await superseded.check(verdict)

    def _is_over(self, lease_dispatch: LeaseDispatch) -> bool:
        """
        Say whether *lease_dispatch* ends with this run; the next run continues it if
        this one only hands it back.
        """
        if self.handed_back is not None:
            self.handed_back.append(lease_dispatch)
        return bool(self.stopped) or self.handed_back is not None

    def _is_handed_back(self, verdict: FailureDecision) -> bool:
        return self.handed_back is not None and verdict.next in RETURNS_WORK

    async def _dispatch(self, lease: Lease) -> FailureDecision | None:
        """
        Have a worker work through *lease*; returns why it ended without a result.
        """
        # Set before each attempt: a quarantined or redispatched item may be one that
        # hangs, and without a known mean it may run for as long as the policy allows.
        known = {"mean_item_s": self.mean_item_s, "dispatch": self.numbers.next()}
        task = asyncio.current_task()
        assert task is not None
        self.dispatched[task] = None
        try:
            worked = await dispatch(lease.model_copy(update=known))
        except ActivityError as error:
            return classify_failure(error)
        finally:
            del self.dispatched[task]
        self._record_lease(lease, worked)
        return None

    async def _wait(self, lease_dispatch: LeaseDispatch, ran_s: float) -> None:
        """
        Wait before a quarantined lease is redispatched; other leases use its place in
        the window. A new run waits for all leases, so the wait is short when one is
        due.
        """
        seconds = lease_dispatch.wait_s(ran_s, workflow.random().random())
        if not seconds:
            return
        self.redispatching += 1
        try:
            await workflow.wait_condition(self._renewing, timeout=seconds)
            await workflow.sleep(min(seconds, RENEWAL_WAIT_S), summary="quarantine")
        except TimeoutError:
            pass  # the whole wait has passed
        finally:
            self.redispatching -= 1

    async def _dead_letter(
        self, lease_dispatch: LeaseDispatch, verdict: FailureDecision
    ) -> None:
        item = lease_dispatch.lease.span.start
        count = lease_dispatch.lease.deaths[item]
        times = f"its process died {count} times{lease_dispatch.quarantine.describe}"
        poison = PoisonItem(
            batch=self.batch.id,
            item=item,
            deaths=count,
            cause=f"{times}: {verdict.cause}",
        )
        is_dead = await self._record("dead_letter_item", poison)
        self.settled += 1
        self.dead += bool(is_dead)

    def _record_lease(self, lease: Lease, worked: LeaseResult) -> None:
        # Count the whole lease: all of it was left to do when it was first dispatched,
        # also items that another attempt has ended since.
        self.settled += lease.span.stop - lease.span.start - len(lease.skip)
        self.dead += worked.dead
        if worked.settled and not lease.quarantined:
            self.lease_size = next_lease_size(self.lease_size, worked.item_s)
            self.mean_item_s = (
                worked.item_s or self.mean_item_s
            )  # 0 when all of it failed
        workflow.set_current_details(
            f"{self.settled} settled, {self.dead} dead letters, "
            f"leases of {self.lease_size} items"
        )

    async def _end(self) -> BatchReport:
        """
        Cancel in-flight leases and count the results.
        """
        self.stopped = self.stopped or self.failed
        for task in list(self.in_flight):
            task.cancel()
        await asyncio.gather(*self.in_flight, return_exceptions=True)
        report = await self._close(cancelled=True)
        assert report is not None  # a cancelled batch is closed whatever is left
        return report.model_copy(update={"failed": self.failed})

    async def _close(self, cancelled: bool) -> BatchReport | None:
        report: BatchReport | None = await self._record(
            "record_batch_closed",
            self.batch.id,
            cancelled,
            *parent_run(),
            result=BatchReport,
        )
        if report is None:
            return None
        return report.model_copy(update={"events": self._events()})

    async def _record(self, name: str, *args: Any, result: Any = None) -> Any:
        """
        Call the ledger activity *name*, for as long as a person may need to repair a
        store.
        """
        keeping = workflow.start_activity(
            name,
            args=args,
            task_queue=MISSIONS_QUEUE,
            heartbeat_timeout=POOL_RECORD_LIMIT,
            start_to_close_timeout=POOL_RECORD_LIMIT,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
                maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
                maximum_attempts=POOL_RECORD_ATTEMPTS,
            ),
        )
        while not keeping.done():
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                # Cancelling a batch must not lose its counts.
                self.stopped = self.stopped or "cancelled"
        found = keeping.result()
        if result is None or (found is None and result is not PendingItems):
            return found
        try:
            return result.model_validate(found)
        except ValidationError:  # a client completed it from outside: call it again
            return await self._record(name, *args, result=result)

    def _events(self) -> int:
        return self.state.events + workflow.info().get_current_history_length()

    def _next_state(self) -> PoolState:
        # The next run surveys the rest of the pending ranges again.
        surveyed = self.pending[0].start - 1 if self.pending else self.read_up_to
        return PoolState(
            batch=self.batch,
            read_up_to=surveyed,
            lease_size=self.lease_size,
            settled=self.settled,
            dead=self.dead,
            events=self._events(),
            dispatches=self.numbers.last,
            leases=[each.state for each in self.handed_back or []],
        )
