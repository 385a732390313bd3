"""
One task on one route: dispatched again after every death, from its last saved step.

The server retries failures and the ledger counts them; deaths reach this workflow, and
`redispatch.after_failure` counts them, so that a killed process neither waits for a
timer nor uses up the failures that a task may have.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.failures import Detector
from outlast.contracts.ids import AttemptId, quarantine_queue, task_queue
from outlast.contracts.prior_run import DispatchState
from outlast.contracts.results import ResultRef
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.workflows.bookkeeping import recorded_answer
from outlast.workflows.cancellation import is_cancelling
from outlast.workflows.dispatch import DispatchNumbers, NewAttempt, Supersession
from outlast.workflows.failure import (
    COMPLETED_OUTSIDE,
    REDISPATCH,
    RETURNS_WORK,
    Action,
    FailureDecision,
    classify_failure,
)
from outlast.workflows.redispatch import AttemptEnd, after_failure, with_checkpoint
from outlast.workflows.renewal import Renewal
from outlast.workflows.routes import no_live_worker

# After these the task continues, or nothing waits for its answer any more.
WITHOUT_APPROVAL = {Action.REQUEST_APPROVAL, Action.SKIP}

RENEWED = "its mission goes on in a new run"


class TaskDispatch:
    """
    The dispatches of one task on *route*, until one of them answers.

    :param numbers: numbers the dispatches of its mission.
    :param stopped: returns why the mission has been stopped, or None while it runs.
    :param renewal: of the run that dispatches the task.
    """

    def __init__(
        self,
        given: AttemptInput,
        route: str,
        numbers: DispatchNumbers,
        stopped: Callable[[], str | None],
        renewal: Renewal,
        heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s,
    ) -> None:
        self.route = route
        self.waits = ""  # what it waits for
        self.state = DispatchState(
            route=route,
            died_at=self._now(),
            failures=given.policy.failures,
            checkpoint=given.checkpoint,
        )
        self._given = given
        self._numbers = numbers
        self._superseded = Supersession(numbers)
        self._stopped = stopped
        self._renewal = renewal
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._attempt: workflow.ActivityHandle[Any] | None = None
        self._withdrawn = False
        self._handed_back = False

    @property
    def activity_id(self) -> str:
        return str(AttemptId(self._given.task.id, self.route, self.state.dispatches))

    @property
    def in_quarantine(self) -> bool:
        """
        Whether the task has died so often that it runs in quarantine.
        """
        return self.state.deaths >= self._given.policy.crashes

    def withdraw(self) -> None:
        """
        Withdraw the attempt from a queue without a live worker; a result that arrives
        meanwhile is kept.
        """
        if self._attempt is not None:
            self._withdrawn = True
            self._attempt.cancel()

    def hand_back(self) -> None:
        """
        Hand the attempt back to the next run of the mission; a result that arrives
        meanwhile is kept.
        """
        if self._attempt is not None:
            self._handed_back = True
            self._attempt.cancel()

    def approve(self, approved: list[str], skipped: list[str]) -> None:
        """
        Let effects of the next attempt happen, or keep the results of earlier ones.
        """
        allowed = {"approved": [*approved], "skipped": [*skipped]}
        self._given = self._given.model_copy(update=allowed)
        self._update(previous_failure=None, detected_by=None)

    async def run(self) -> ResultRef | FailureDecision:
        """
        Dispatch until there is an answer, or a failure that another attempt cannot
        change.
        """
        while True:
            await self._wait()
            await self._renewal.wait_for_next_run()
            started_at = self._now()
            ended = await self._run_attempt()
            if isinstance(ended, ResultRef):
                return ended
            if self._returns_work(ended):
                continue  # the next run has its work
            if ended.next in REDISPATCH and self._stopped():
                return self._cancelled()
            end = AttemptEnd(started_at, self._now(), self._random)
            crashes = self._given.policy.crashes
            self.state, decision = after_failure(self.state, ended, crashes, end)
            if is_cancelling():
                return self._cancelled()
            if self._withdrawn and decision.next is Action.SKIP:
                return FailureDecision(Action.REROUTE, no_live_worker(self.route))
            if decision.next not in REDISPATCH:
                return await self._recheck_ledger(decision)
            await self._superseded.check(decision)

    async def _run_attempt(self) -> ResultRef | FailureDecision:
        self._update(dispatches=self.state.dispatches + 1)
        self._withdrawn = False
        try:
            answer = await self._dispatch() or await self._recorded_answer()
        except ActivityError as error:
            return classify_failure(error)
        return answer or COMPLETED_OUTSIDE

    def _returns_work(self, decision: FailureDecision) -> bool:
        """
        Say whether the attempt was handed back, and keep what it has saved: none of it
        is counted.
        """
        handed_back = self._handed_back and decision.next in RETURNS_WORK
        if not handed_back or is_cancelling():
            return False
        self._numbers.skip_to(decision.dispatch)
        drained = replace(decision, cause=RENEWED, detected_by=Detector.DRAIN)
        self.state = with_checkpoint(self.state, drained)
        return True

    async def _recheck_ledger(
        self, decision: FailureDecision
    ) -> ResultRef | FailureDecision:
        """
        Ask the ledger before *decision* ends the route: if it has the answer of an
        attempt, the task is done, whatever failure was reported.
        """
        if decision.next in WITHOUT_APPROVAL:
            return decision
        answer = await self._recorded_answer()
        if is_cancelling():
            return self._cancelled()
        return answer or decision

    def _cancelled(self) -> FailureDecision:
        why = self._stopped() or "cancelled"
        return FailureDecision(Action.SKIP, why, attempts=self.state.dispatches)

    def _update(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)

    async def _wait(self) -> None:
        if not self.state.wait_s:
            return
        deaths = self.state.deaths
        self.waits = f"its next attempt, in quarantine after {deaths} deaths"
        try:
            await self._sleep(self.state.wait_s)
            self._update(wait_s=0.0)
        finally:
            self.waits = ""

    async def _sleep(self, seconds: float) -> None:
        await workflow.sleep(seconds, summary="quarantine")

    def _now(self) -> float:
        return workflow.time()

    def _random(self) -> float:
        return workflow.random().random()

    async def _recorded_answer(self) -> ResultRef | None:
        given = self._given
        with self._renewal.busy():
            return await recorded_answer(given.mission, given.task.id, given.round)

    def _next_input(self) -> AttemptInput:
        state, policy = self.state, self._given.policy
        told = {
            "policy": policy.model_copy(update={"failures": state.failures}),
            "checkpoint": state.checkpoint,
            "previous_failure": state.previous_failure,
            "detected_by": state.detected_by,
        }
        return self._given.model_copy(update=told)

    async def _dispatch(self) -> ResultRef | None:
        """
        Dispatch one attempt; None when a client has completed it in the worker's place,
        with something that is no answer.
        """
        queue = quarantine_queue if self.in_quarantine else task_queue
        number = {"dispatch": self._numbers.next()}
        attempt = NewAttempt(
            activity=self.route,
            given=self._next_input().model_copy(update=number),
            queue=queue(self.route),
            summary=self._given.task.id,
            heartbeat_timeout_s=self._heartbeat_timeout_s,
            limit=self._given.policy.attempt_limit,
            id=self.activity_id,
        )
        self._attempt = attempt.start()
        with self._renewal.busy():
            return ResultRef.read(await self._attempt)
