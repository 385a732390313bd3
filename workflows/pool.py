"""
The pool: lend the items of a batch in ranges, go on after every death, bury the item
that kills.

The history holds ranges, never items; what is done is in the store, so that a lease
that is lent again goes on where the dead one was.
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
        FIRST_LEASE,
        RENEW_EVENTS,
        WINDOW,
        BatchReport,
        Burial,
        Lease,
        PoolProgress,
        PoolState,
        Span,
        Survey,
        Worked,
        next_size,
    )
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.ids import MISSIONS_QUEUE
    from outlast.contracts.policies import (
        BACKOFF_CAP_S,
        BACKOFF_FIRST_S,
    )
    from outlast.contracts.text import CAUSE_CHARS, shorten
    from outlast.workflows.bookkeeping import failure_of_batch, parent_run
    from outlast.workflows.entry import NOTHING, nothing_to_do, read_state, refusal
    from outlast.workflows.failure import Next, Verdict, judge
    from outlast.workflows.faults import FAULTS, cause_of
    from outlast.workflows.lease_dispatch import Loan, dispatch
    from outlast.workflows.renewal import GRACE_S
    from outlast.workflows.task_dispatch import (
        AGAIN,
        HANDED_BACK,
        DispatchNumbers,
        Supersession,
    )

KEEPING_LIMIT = timedelta(seconds=60)
KEEPING_ATTEMPTS = 100_000
RENEWING_WAIT_S = 1.0
# Two leases of half of what is left end sooner than one of all of it.
SHARE = 4


@workflow.defn(name="Pool", failure_exception_types=FAULTS)
class PoolWorkflow:
    """
    One batch, until nothing of it is left to do.
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
        self.size = state.lease_size
        self.settled = state.settled
        self.dead = state.dead
        self.surveyed = state.surveyed
        self.numbers = DispatchNumbers(state.dispatches)
        self.items = 0
        self.usual_s = 0.0
        self.sealed = False
        self.pending: deque[Span] = deque()
        # No set: it would be cancelled in another order when it is replayed.
        self.lent: dict[asyncio.Task[None], None] = {}
        self.waiting = 0  # leases in quarantine between two attempts
        self.woken = False
        # While the history is full: how long leases may take to end, those that are
        # dispatched, and what was taken back since.
        self.grace: asyncio.Task[None] | None = None
        self.dispatched: dict[asyncio.Task[Any], None] = {}
        self.handed_back: list[Loan] | None = None
        self.stopped: str | None = None
        self.failed: str | None = None

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> BatchReport:
        if self.refused is not None:
            raise refusal(self.refused)
        try:
            report = await self._work_off()
        except asyncio.CancelledError:
            # Cancelled from outside: what is done is kept and counted all the same.
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
            leases=len(self.lent),
            lease_size=self.size,
            events=self._events(),
        )

    @workflow.signal
    def wake(self) -> None:
        """
        Look again: items were added, or no more will come.
        """
        self.woken = True

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the batch: leases under way are cancelled, what is done is kept.
        """
        self.stopped = shorten(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        if self.stopped:
            raise ValueError("the batch is being cancelled already")

    async def _work_off(self) -> BatchReport:
        for each in self.state.loans:
            self._start(Loan.of(each))
        while True:
            renewing = self._renewing()
            if renewing and not self.lent:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._renewed())
            if renewing:
                self._hand_back()
            if not renewing:
                await self._lend_all()
            if self.stopped or self.failed:
                return await self._end()
            if not self.lent and not self.pending and self._at_end():
                report = await self._close(cancelled=False)
                if report is not None:
                    return report
                self.surveyed = 0  # added since, or lost by an error of ours: again
                continue
            await self._something_to_do(renewing)

    def _hand_back(self) -> None:
        """
        Give leases some time to end, then take back what is left: an item may last for
        days. None of that is counted.
        """
        if self.grace is None:
            self.grace = asyncio.create_task(workflow.sleep(GRACE_S))
        elif self.grace.done() and self.handed_back is None:
            self.handed_back = []
            for task in self.dispatched:
                task.cancel()

    async def _something_to_do(self, renewing: bool) -> None:
        """
        Wait until there is a lease to lend, none is left, or somebody says stop.
        """
        had = bool(self.lent)

        def due() -> bool:
            more = bool(self.pending) or self.woken
            free = self._free() and not renewing
            late = renewing and self.grace is not None and self.grace.done()
            if late and self.handed_back is None:
                return True
            return bool(self.stopped or self.failed or (had and not self.lent)) or (
                more and free
            )

        await workflow.wait_condition(due)

    def _at_end(self) -> bool:
        return self.sealed and self.surveyed >= self.items

    def _renewing(self) -> bool:
        return workflow.info().get_current_history_length() > RENEW_EVENTS

    def _free(self) -> bool:
        return len(self.lent) - self.waiting < WINDOW

    async def _lend_all(self) -> None:
        """
        Fill the window.
        """
        while self._free() and not self.stopped and await self._pending():
            self._start(Loan(self._next_lease(), died_at=workflow.time()))

    async def _pending(self) -> bool:
        """
        Look for what is left to do, span by span; False when there is nothing now.
        """
        while not self.pending:
            seen_all = self.items and self.surveyed >= self.items
            if (seen_all or self._at_end()) and not self.woken:
                return False
            self.woken = False
            found: Survey = await self._keep(
                "survey", self.batch.id, self.surveyed, result=Survey
            )
            self.pending.extend(found.pending)
            self.surveyed = found.up_to
            self.items, self.sealed = found.items, found.sealed
            if not found.pending and found.up_to >= found.items:
                return False
        return True

    def _next_lease(self) -> Lease:
        span = self.pending.popleft()
        size = self.size
        if self.sealed:
            left = max(self.items - self.surveyed, 0) + span.stop - span.start
            size = min(size, max(FIRST_LEASE, left // SHARE))
        stop = min(span.stop, span.start + size)
        if stop < span.stop:
            self.pending.appendleft(Span(start=stop, stop=span.stop))
        return Lease(batch=self.batch, span=Span(start=span.start, stop=stop))

    def _start(self, loan: Loan) -> None:
        task = asyncio.create_task(self._noting_faults(loan))
        self.lent[task] = None
        task.add_done_callback(self.lent.pop)

    async def _noting_faults(self, loan: Loan) -> None:
        """
        Pursue *loan*; a fault of our own ends the batch, since nobody else hears it.
        """
        try:
            await self._pursue(loan)
        except Exception as error:
            self.failed = self.failed or cause_of(error)

    async def _pursue(self, loan: Loan) -> None:
        """
        Lend a lease again after every death, until all of it is settled.
        """
        superseded = Supersession(self.numbers)
        while not self._is_over(loan):
            begun_at = workflow.time()
            verdict = await self._lend(loan.lease)
            if verdict is None:
                return
            loan.lend_again()
            if self._is_handed_back(verdict):
                continue
            if verdict.next is Next.AGAIN_CRASHED:
                for each in loan.died(verdict, workflow.time()):
                    self._start(Loan(each, died_at=workflow.time()))
                if loan.convicted:
                    await self._bury(loan, verdict)
                    return
                if loan.hopeless:
                    self.failed = f"leases die again and again: {verdict.cause}"
                else:
                    await self._wait(loan, workflow.time() - begun_at)
            elif verdict.next not in (*AGAIN, Next.SKIP):
                self.failed = verdict.cause
            if self.failed:
                return
            await superseded.heed(verdict)

    def _is_over(self, loan: Loan) -> bool:
        """
        Say whether *loan* goes on no more in this run; the next one has it if that is
        because this one ends.
        """
        if self.handed_back is not None:
            self.handed_back.append(loan)
        return bool(self.stopped) or self.handed_back is not None

    def _is_handed_back(self, verdict: Verdict) -> bool:
        return self.handed_back is not None and verdict.next in HANDED_BACK

    async def _lend(self, lease: Lease) -> Verdict | None:
        """
        Have a worker work through *lease*; returns why it has not come to its end.
        """
        # Known anew each time: what goes alone or again may be an item that hangs, and
        # unmeasured it has as long as the policy allows.
        known = {"usual_s": self.usual_s, "dispatch": self.numbers.next()}
        task = asyncio.current_task()
        assert task is not None
        self.dispatched[task] = None
        try:
            worked = await dispatch(lease.model_copy(update=known))
        except ActivityError as error:
            return judge(error)
        finally:
            del self.dispatched[task]
        self._note(lease, worked)
        return None

    async def _wait(self, loan: Loan, ran_s: float) -> None:
        """
        Wait before a lease is lent again in quarantine; others take its place. A new
        run waits for all leases, so there is no long wait before it.
        """
        seconds = loan.wait_s(ran_s, workflow.random().random())
        if not seconds:
            return
        self.waiting += 1
        try:
            await workflow.wait_condition(self._renewing, timeout=seconds)
            await workflow.sleep(min(seconds, RENEWING_WAIT_S), summary="quarantine")
        except TimeoutError:
            pass  # as long as it should
        finally:
            self.waiting -= 1

    async def _bury(self, loan: Loan, verdict: Verdict) -> None:
        item = loan.lease.span.start
        count = loan.lease.deaths[item]
        times = f"its process died {count} times{loan.quarantine.told}"
        burial = Burial(
            batch=self.batch.id,
            item=item,
            deaths=count,
            cause=f"{times}: {verdict.cause}",
        )
        buried = await self._keep("bury", burial)
        self.settled += 1
        self.dead += bool(buried)

    def _note(self, lease: Lease, worked: Worked) -> None:
        # All of it was left to do when it was lent first, whoever settled it since.
        self.settled += lease.span.stop - lease.span.start - len(lease.skip)
        self.dead += worked.dead
        if worked.settled and not lease.alone:
            self.size = next_size(self.size, worked.item_s)
            self.usual_s = worked.item_s or self.usual_s  # 0 when all of it failed
        workflow.set_current_details(
            f"{self.settled} settled, {self.dead} dead letters, "
            f"leases of {self.size} items"
        )

    async def _end(self) -> BatchReport:
        """
        Stop what runs and count what was done.
        """
        self.stopped = self.stopped or self.failed
        for task in list(self.lent):
            task.cancel()
        await asyncio.gather(*self.lent, return_exceptions=True)
        report = await self._close(cancelled=True)
        assert report is not None  # a cancelled batch is closed whatever is left
        return report.model_copy(update={"failed": self.failed})

    async def _close(self, cancelled: bool) -> BatchReport | None:
        report: BatchReport | None = await self._keep(
            "close_batch", self.batch.id, cancelled, *parent_run(), result=BatchReport
        )
        if report is None:
            return None
        return report.model_copy(update={"events": self._events()})

    async def _keep(self, name: str, *args: Any, result: Any = None) -> Any:
        """
        Have the books kept, for as long as it takes a person to mend a store.
        """
        keeping = workflow.start_activity(
            name,
            args=args,
            task_queue=MISSIONS_QUEUE,
            heartbeat_timeout=KEEPING_LIMIT,
            start_to_close_timeout=KEEPING_LIMIT,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
                maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
                maximum_attempts=KEEPING_ATTEMPTS,
            ),
        )
        while not keeping.done():
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                # Cancelling a batch must not lose its count.
                self.stopped = self.stopped or "cancelled"
        found = keeping.result()
        if result is None or (found is None and result is not Survey):
            return found
        try:
            return result.model_validate(found)
        except ValidationError:  # it was completed from outside: again
            return await self._keep(name, *args, result=result)

    def _events(self) -> int:
        return self.state.events + workflow.info().get_current_history_length()

    def _renewed(self) -> PoolState:
        # What is left of the pending spans is surveyed again.
        surveyed = self.pending[0].start - 1 if self.pending else self.surveyed
        return PoolState(
            batch=self.batch,
            surveyed=surveyed,
            lease_size=self.size,
            settled=self.settled,
            dead=self.dead,
            events=self._events(),
            dispatches=self.numbers.last,
            loans=[each.state for each in self.handed_back or []],
        )
