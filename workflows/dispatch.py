"""
What the dispatches of tasks and of leases have in common: how their attempts are
started, how they are numbered, and what follows when a later one has claimed the work.
"""

from datetime import timedelta
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.common import RetryPolicy

from outlast.contracts.retries import (
    BACKOFF_CAP_S,
    BACKOFF_FACTOR,
    BACKOFF_FIRST_S,
    MAX_SERVER_RETRIES,
)
from outlast.contracts.wire import WireModel
from outlast.workflows.failure import LEFT_TO_THE_WORKFLOW, Action, FailureDecision

RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
    backoff_coefficient=BACKOFF_FACTOR,
    maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
    maximum_attempts=MAX_SERVER_RETRIES,
    non_retryable_error_types=LEFT_TO_THE_WORKFLOW,
)


class NewAttempt(NamedTuple):
    """
    An attempt to start: which activity, on which queue, and within which limits.
    """

    activity: str
    given: WireModel
    queue: str
    summary: str
    heartbeat_timeout_s: float
    limit: timedelta
    id: str | None = None

    def start(self) -> workflow.ActivityHandle[Any]:
        return workflow.start_activity(
            self.activity,
            self.given,
            task_queue=self.queue,
            activity_id=self.id,
            summary=self.summary,
            heartbeat_timeout=timedelta(seconds=self.heartbeat_timeout_s),
            start_to_close_timeout=self.limit,
            retry_policy=RETRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


class DispatchNumbers:
    """
    Numbers what a workflow dispatches, over all its tasks and runs, after *last*.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
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

    async def check(self, decision: FailureDecision) -> None:
        """
        Continue after the dispatch that superseded ours: at once first, then ever
        later.
        """
        if decision.next is not Action.REDISPATCH_SUPERSEDED:
            self._count = 0
            return
        self._numbers.skip_to(decision.dispatch)
        if self._count:
            longest_s = min(BACKOFF_CAP_S, BACKOFF_FACTOR**self._count)
            wait_s = longest_s * (1 + workflow.random().random()) / 2
            await workflow.sleep(wait_s, summary="superseded")
        self._count += 1
