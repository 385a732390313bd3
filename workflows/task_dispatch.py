"""
One task on one route: dispatched again after every death, from its last saved step.

The server retries failures and the ledger counts them; deaths reach this workflow and
are counted here, so that a killed process neither waits for a timer nor uses up the
failures that a task may have.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.failures import Detector
from outlast.contracts.ids import AttemptId, quarantine_queue, task_queue
from outlast.contracts.prior_run import DispatchState
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import (
    BACKOFF_CAP_S,
    BACKOFF_FACTOR,
    BACKOFF_FIRST_S,
    MAX_SERVER_RETRIES,
)
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.workflows.bookkeeping import BOOKKEEPING
from outlast.workflows.failure import (
    LEFT_TO_THE_WORKFLOW,
    Action,
    FailureDecision,
    classify_failure,
)
from outlast.workflows.renewal import Renewal
from outlast.workflows.routes import no_live_worker

# A task that is lost so often without a heartbeat may be what freezes its hosts.
MAX_LOST_DISPATCHES = 10

RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
    backoff_coefficient=BACKOFF_FACTOR,
    maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
    maximum_attempts=MAX_SERVER_RETRIES,
    non_retryable_error_types=LEFT_TO_THE_WORKFLOW,
)

# After these the task continues, or nothing waits for its answer any more.
WITHOUT_APPROVAL = {Action.REQUEST_APPROVAL, Action.SKIP}

COMPLETED_OUTSIDE = FailureDecision(
    Action.REDISPATCH_DRAINED,
    "its attempt was completed from outside, with what is no answer",
    detected_by=Detector.OUTSIDE,
)

RENEWED = "its mission goes on in a new run"

REDISPATCH = {
    Action.REDISPATCH_CRASHED,
    Action.REDISPATCH_TIMED_OUT,
    Action.REDISPATCH_DRAINED,
    Action.REDISPATCH_SUPERSEDED,
}
# How an attempt that was handed back may end: none of it is counted.
RETURNS_WORK = {*REDISPATCH, Action.SKIP}


class DispatchNumbers:
    """
    Numbers what a workflow dispatches, over all its tasks and runs, after *last*.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        """
        Return the next number.
        """
        self.last += 1
        return self.last

    def skip_to(self, seen: int) -> None:
        """
        Continue after *seen*, a number that the ledger has and this history does not.
        """
        self.last = max(self.last, seen)


class Supersession:
    """
    Counts how often in a row an attempt was superseded. Where two servers have one
    task, as two peers of a mesh on one store may, neither would finish it if both
    reclaimed it at once.
    """

    def __init__(self, numbers: DispatchNumbers) -> None:
        self._numbers = numbers
        self._count = 0

    async def check(self, verdict: FailureDecision) -> None:
        """
        Continue after the dispatch that superseded ours: at once first, then ever
        later.
        """
        if verdict.next is not Action.REDISPATCH_SUPERSEDED:
            self._count = 0
            return
        self._numbers.skip_to(verdict.dispatch)
        if self._count:
            longest_s = min(BACKOFF_CAP_S, BACKOFF_FACTOR**self._count)
            wait_s = longest_s * (1 + workflow.random().random()) / 2
            await workflow.sleep(wait_s, summary="superseded")
        self._count += 1


class TaskDispatch:
    """
    The dispatches of one task on *route*, until one of them answers.

    :param numbers: numbers the dispatches of its mission.
    :param stopped: returns why the mission has been stopped, or None while it runs.
    :param renewal: of the run that dispatches the task.
    """

    def __init__(
        self,
        assignment: AttemptInput,
        route: str,
        numbers: DispatchNumbers,
        stopped: Callable[[], str | None],
        renewal: Renewal,
        heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s,
    ) -> None:
        self.assignment = assignment
        self.route = route
        self.dispatches = 0
        self.deaths = 0  # since the last saved step
        self.quarantine = Quarantine()  # deaths among them while in quarantine
        self.lost = 0  # attempts that were lost before they began
        self.numbers = numbers
        self._superseded = Supersession(numbers)
        self._stopped = stopped
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._attempt: workflow.ActivityHandle[Any] | None = None
        self._withdrawn = False
        self._renewal = renewal
        self._handed_back = False
        self._started_at = self._died_at = self._now()
        self._wait_s = 0.0  # wait before the next attempt
        self.waits = ""  # what it waits for

    def restore(self, state: DispatchState) -> None:
        """
        Continue from where an earlier run of the mission left the dispatch.
        """
        self.dispatches, self.deaths = state.dispatches, state.deaths
        self.lost, self.quarantine = state.lost, state.quarantine
        self._died_at, self._wait_s = state.died_at, state.wait_s
        allowed = {"failures": state.failures}
        told = {
            "policy": self.assignment.policy.model_copy(update=allowed),
            "checkpoint": state.checkpoint,
            "previous_failure": state.previous_failure,
            "detected_by": state.detected_by,
        }
        self.assignment = self.assignment.model_copy(update=told)

    @property
    def state(self) -> DispatchState:
        """
        The state of the dispatch, for the next run of its mission.
        """
        return DispatchState(
            route=self.route,
            dispatches=self.dispatches,
            deaths=self.deaths,
            lost=self.lost,
            quarantine=self.quarantine,
            died_at=self._died_at,
            wait_s=self._wait_s,
            failures=self.assignment.policy.failures,
            checkpoint=self.assignment.checkpoint,
            previous_failure=self.assignment.previous_failure,
            detected_by=self.assignment.detected_by,
        )

    @property
    def activity_id(self) -> str:
        """
        Name the in-flight attempt.
        """
        task = self.assignment.task.id
        return str(AttemptId(task, self.route, self.dispatches))

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
        nothing = {"previous_failure": None, "detected_by": None}
        self.assignment = self.assignment.model_copy(update={**allowed, **nothing})

    async def run(self) -> ResultRef | FailureDecision:
        """
        Dispatch until there is an answer, or a failure that another attempt cannot
        change.
        """
        while True:
            await self._wait()
            await self._renewal.wait_for_next_run()
            self.dispatches += 1
            self._withdrawn = False
            self._started_at = self._now()
            try:
                answer = await self._dispatch() or await self._recorded_answer()
            except ActivityError as error:
                verdict = classify_failure(error)
            else:
                if answer is not None:
                    return answer
                verdict = COMPLETED_OUTSIDE
            if (
                self._handed_back
                and verdict.next in RETURNS_WORK
                and not is_cancelling()
            ):
                self.numbers.skip_to(verdict.dispatch)
                drained = Detector.DRAIN
                self._carry_checkpoint(
                    replace(verdict, cause=RENEWED, detected_by=drained)
                )
                continue
            verdict = self._handle_failure(verdict)
            if is_cancelling():
                return self._ended()
            if self._withdrawn and verdict.next is Action.SKIP:
                return FailureDecision(Action.REROUTE, no_live_worker(self.route))
            if verdict.next not in REDISPATCH:
                return await self._recheck_ledger(verdict)
            await self._superseded.check(verdict)

    async def _recheck_ledger(
        self, verdict: FailureDecision
    ) -> ResultRef | FailureDecision:
        """
        Ask the ledger before *verdict* ends the route: if it has the answer of an
        attempt, the task is done, whatever failure was reported.
        """
        if verdict.next in WITHOUT_APPROVAL:
            return verdict
        answer = await self._recorded_answer()
        if is_cancelling():
            return self._ended()
        return answer or verdict

    def _handle_failure(self, verdict: FailureDecision) -> FailureDecision:
        """
        Carry over what the attempt has saved, count its death, and decide whether
        another attempt follows.
        """
        before = self._saved
        self._carry_checkpoint(verdict)
        if verdict.next in REDISPATCH and (why := self._stopped()):
            return FailureDecision(Action.SKIP, why, attempts=self.dispatches)
        if verdict.next is Action.REDISPATCH_TIMED_OUT:
            return self._consume_retry(verdict)
        if verdict.next is not Action.REDISPATCH_CRASHED:
            return verdict
        if verdict.never_started and self.lost < MAX_LOST_DISPATCHES:
            # A poll that died with its process had received the task: not counted
            # against it.
            self.lost += 1
            return verdict
        return self._count_progress(verdict, progressed=self._saved > before)

    def _count_progress(
        self, verdict: FailureDecision, progressed: bool
    ) -> FailureDecision:
        """
        Count a death; a task that died in quarantine, of what only it can have caused,
        takes its next route.
        """
        now = self._now()
        since_s, self._died_at = max(0.0, now - self._died_at), now
        alone = self.in_quarantine and not progressed
        self.deaths = 1 if progressed else self.deaths + 1
        if not alone:
            self.quarantine = Quarantine()
            return verdict
        self.quarantine = self.quarantine.with_death(verdict.death, since_s)
        if self.quarantine.is_poison:
            times = f"died {self.deaths} times at one step{self.quarantine.describe}"
            cause = f"{times}: {verdict.cause}"
            return FailureDecision(Action.NEXT_ROUTE, cause, attempts=self.dispatches)
        self._wait_s = self.quarantine.wait_s(now - self._started_at, self._random())
        return verdict

    def _consume_retry(self, verdict: FailureDecision) -> FailureDecision:
        """
        Count an attempt that hit its limit as one of the task's allowed failures.
        """
        policy = self.assignment.policy
        if policy.failures == 1:
            return FailureDecision(
                Action.NEXT_ROUTE, verdict.cause, attempts=self.dispatches
            )
        fewer = policy.model_copy(update={"failures": policy.failures - 1})
        self.assignment = self.assignment.model_copy(update={"policy": fewer})
        return verdict

    def _carry_checkpoint(self, verdict: FailureDecision) -> None:
        """
        Pass the last checkpoint, and what ended the attempt, to the next attempt.
        """
        known = [self.assignment.checkpoint, verdict.checkpoint]
        told = {
            "previous_failure": one_line(verdict.cause, CAUSE_CHARS),
            "detected_by": verdict.detected_by,
            # An attempt that ended before it had resumed reports an empty checkpoint.
            "checkpoint": max(filter(None, known), key=_seq, default=None),
        }
        self.assignment = self.assignment.model_copy(update=told)

    @property
    def in_quarantine(self) -> bool:
        """
        Whether the task has died so often that it runs in quarantine.
        """
        return self.deaths >= self.assignment.policy.crashes

    @property
    def _saved(self) -> int:
        checkpoint = self.assignment.checkpoint
        return checkpoint.seq if checkpoint else 0

    def _ended(self) -> FailureDecision:
        why = self._stopped() or "cancelled"
        return FailureDecision(Action.SKIP, why, attempts=self.dispatches)

    async def _wait(self) -> None:
        """
        Wait before another attempt in quarantine.
        """
        if not self._wait_s:
            return
        self.waits = f"its next attempt, in quarantine after {self.deaths} deaths"
        try:
            await self._sleep(self._wait_s)
            self._wait_s = 0.0
        finally:
            self.waits = ""

    async def _sleep(self, seconds: float) -> None:
        await workflow.sleep(seconds, summary="quarantine")

    def _now(self) -> float:
        return workflow.time()

    def _random(self) -> float:
        return workflow.random().random()

    async def _recorded_answer(self) -> ResultRef | None:
        given = self.assignment
        with self._renewal.busy():
            return await recorded_answer(given.mission, given.task.id, given.round)

    async def _dispatch(self) -> ResultRef | None:
        """
        Dispatch one attempt; None when it was completed with something that is no
        answer.
        """
        task = self.assignment.task.id
        queue = quarantine_queue if self.in_quarantine else task_queue
        number = {"dispatch": self.numbers.next()}
        self._attempt = workflow.start_activity(
            self.route,
            self.assignment.model_copy(update=number),
            task_queue=queue(self.route),
            activity_id=self.activity_id,
            summary=task,
            heartbeat_timeout=timedelta(seconds=self._heartbeat_timeout_s),
            start_to_close_timeout=self.assignment.policy.attempt_limit,
            retry_policy=RETRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        with self._renewal.busy():
            return answer_in(await self._attempt)


def answer_in(result: object) -> ResultRef | None:
    """
    Read an attempt's result, which a client can have reported in the worker's place: a
    decoding error would fail the workflow task for ever.
    """
    try:
        return ResultRef.model_validate(result)
    except ValidationError:
        return None


async def recorded_answer(mission: str, task: str, round_: int) -> ResultRef | None:
    """
    Ask the ledger for the answer of the task's round; None when there is none, or when
    the workflow was cancelled meanwhile.
    """
    try:
        return answer_in(
            await workflow.execute_activity(
                "find_result", args=[mission, task, round_], summary=task, **BOOKKEEPING
            )
        )
    except ActivityError:
        return None


def is_cancelling() -> bool:
    """
    True if the current task has a pending cancellation. What it awaited may have ended
    otherwise before that, and asyncio delivers the cancellation only once.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _seq(checkpoint: Checkpoint) -> int:
    return checkpoint.seq
