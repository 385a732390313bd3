"""
One lease over all its attempts: dispatched again after every crash, on the queue where
it waits least, until all its items have ended.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from outlast.contracts.batches import Lease, LeaseResult, LeaseState, PoisonItem
from outlast.contracts.ids import (
    LeaseActivityId,
    lease_queue,
    quarantine_queue,
    task_queue,
)
from outlast.workflows.batch_context import BatchContext
from outlast.workflows.dispatch import NewAttempt, Supersession
from outlast.workflows.failure import (
    REDISPATCH,
    RETURNS_WORK,
    Action,
    FailureDecision,
    classify_failure,
)
from outlast.workflows.redispatch import (
    after_crash,
    is_over_limit,
    is_poison,
    lease_wait_s,
)

LEASE_TIMEOUT = timedelta(days=7)
RENEWAL_WAIT_S = 1.0


class LeaseDispatch:
    """
    A lease, from the *state* in which an earlier run left it; *start* runs another one
    beside it.
    """

    def __init__(
        self,
        batch: BatchContext,
        state: LeaseState,
        start: Callable[[LeaseState], None],
    ) -> None:
        self._batch = batch
        self._state = state
        self._start = start

    async def run(self) -> None:
        """
        Redispatch the lease after every crash, until all its items have ended.
        """
        superseded = Supersession(self._batch.numbers)
        while not self._is_over():
            started_at = workflow.time()
            decision = await self._dispatch()
            if decision is None:
                return
            again = self._state.lease.model_copy(update={"redelivered": True})
            self._state = self._state.model_copy(update={"lease": again})
            if self._batch.renewal.handed_back and decision.next in RETURNS_WORK:
                continue
            if decision.next is Action.REDISPATCH_CRASHED:
                if await self._is_ended_by_crash(decision, started_at):
                    return
            elif decision.next not in (*REDISPATCH, Action.SKIP):
                self._batch.failed = decision.cause
            if self._batch.failed:
                return
            await superseded.check(decision)

    def _is_over(self) -> bool:
        """
        Say whether the lease ends with this run; the next run continues it if this one
        only hands it back.
        """
        if self._batch.renewal.handed_back:
            self._batch.handed_back.append(self._state)
        return bool(self._batch.stopped) or self._batch.renewal.handed_back

    async def _is_ended_by_crash(
        self, decision: FailureDecision, started_at: float
    ) -> bool:
        """
        Count a crash; its suspects run in quarantine, a poison item is a dead letter.
        """
        now = workflow.time()
        self._state, suspects = after_crash(self._state, decision, now)
        for each in suspects:
            self._start(LeaseState(lease=each, died_at=now))
        if is_poison(self._state):
            await self._dead_letter(decision)
            return True
        if is_over_limit(self._state):
            self._batch.failed = f"leases die again and again: {decision.cause}"
        else:
            await self._wait(now - started_at)
        return False

    async def _wait(self, ran_s: float) -> None:
        """
        Wait before a quarantined lease is redispatched; other leases use its place in
        the window. A new run waits for all leases, so the wait is short when one is
        due.
        """
        batch = self._batch
        seconds = lease_wait_s(self._state, ran_s, workflow.random().random())
        if not seconds:
            return
        batch.redispatching += 1
        try:
            await workflow.wait_condition(
                lambda: batch.renewal.is_needed, timeout=seconds
            )
            await workflow.sleep(min(seconds, RENEWAL_WAIT_S), summary="quarantine")
        except TimeoutError:
            pass  # the whole wait has passed
        finally:
            batch.redispatching -= 1

    async def _dead_letter(self, decision: FailureDecision) -> None:
        lease = self._state.lease
        item = lease.span.start
        count = lease.deaths[item]
        times = f"its process died {count} times{self._state.quarantine.describe}"
        poison = PoisonItem(
            batch=lease.batch.id,
            item=item,
            deaths=count,
            cause=f"{times}: {decision.cause}",
        )
        await self._batch.dead_letter(poison)

    async def _dispatch(self) -> FailureDecision | None:
        """
        Have a worker work through the lease; returns why it ended without a result.
        """
        batch, lease = self._batch, self._state.lease
        # Set before each attempt: a quarantined or redispatched item may be one that
        # hangs, and without a known mean it may run for as long as the policy allows.
        known = {"mean_item_s": batch.mean_item_s, "dispatch": batch.numbers.next()}
        task = asyncio.current_task()
        assert task is not None
        batch.dispatched[task] = None
        try:
            result = await _result_of(lease.model_copy(update=known))
        except ActivityError as error:
            return classify_failure(error)
        finally:
            del batch.dispatched[task]
        batch.record_lease(lease, result)
        return None


async def _result_of(lease: Lease) -> LeaseResult:
    """
    Have a worker work through *lease*, again if a client completes it in its place.

    :raises ActivityError: when the attempt ends without a result.
    """
    while True:
        attempt = NewAttempt(
            activity=str(LeaseActivityId(lease.batch.role)),
            given=lease,
            queue=_queue(lease),
            summary=f"{lease.span.start} to {lease.span.stop - 1}",
            heartbeat_timeout_s=lease.batch.heartbeat_timeout_s,
            limit=LEASE_TIMEOUT,
        )
        result = LeaseResult.read(await attempt.start())
        if result is not None:
            return result
        lease = lease.model_copy(update={"redelivered": True})


def _queue(lease: Lease) -> str:
    """
    Choose the queue of a lease. A redispatched one takes a slot for the role's tasks,
    of which every live worker has some, and so does not wait behind all other leases.
    """
    role = lease.batch.role
    if lease.quarantined:
        return quarantine_queue(role)
    return task_queue(role) if lease.redelivered else lease_queue(role)
