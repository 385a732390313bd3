"""
Why a task has no attempt at work: it backs off after a failure, or waits for a worker.

The server knows: it keeps the last failure of an attempt that it will start again, and
when. Both look the same in a mission's own eyes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

PAUSED_STATES = (
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)


@dataclass(frozen=True)
class UnstartedTask:
    """
    A task whose next attempt is not at work.

    :param attempt: the number of that attempt.
    :param backs_off: it will be tried at its time; else it waits for a worker.
    :param text: what there is to say of that.
    """

    attempt: int
    backs_off: bool
    text: str


@dataclass
class PendingTasks:
    """
    How long attempts have been seen to wait: by our own clock, since the server's may
    be another.
    """

    clock: Callable[[], float] = time.monotonic
    _since: dict[tuple[str, int], float] = field(default_factory=dict)

    def waited_s(self, pending: PendingActivityInfo) -> float:
        """
        Say for how long *pending* has been seen.
        """
        now, which = self.clock(), (pending.activity_id, pending.attempt)
        return now - self._since.setdefault(which, now)


async def unstarted_tasks(
    pending: PendingActivityInfo, waited_s: float
) -> UnstartedTask | None:
    """
    Read why an attempt is not at work; None when it is.

    :param waited_s: for how long it has been seen to wait.
    """
    if pending.state in PAUSED_STATES:
        told = f"paused in Temporal, by others: unpause {pending.activity_id} there"
        return UnstartedTask(pending.attempt, False, told)
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return None
    attempt, cause = await _last_failure(pending)
    left_s = None
    if pending.HasField("next_attempt_schedule_time"):  # until that time has come
        left_s = pending.current_retry_interval.ToMicroseconds() / 1e6 - waited_s
    return unstarted_task(pending.activity_type.name, attempt, cause, left_s)


def unstarted_task(
    role: str, attempt: int, cause: str, left_s: float | None
) -> UnstartedTask:
    """
    Say what the attempt waits for, which is to begin in *left_s*; None when it is due.

    :param cause: of the failure before it; "" when there was none.
    """
    after = f", after {cause}" if cause else ""
    if cause and left_s is not None:
        when = f"in {left_s:.0f} s" if left_s >= 1 else "at once"
        return UnstartedTask(attempt, True, f"attempt {attempt} {when}{after}")
    told = (
        f"for a free worker of role {role}{after}; `outlast workers` lists them, "
        "outlast-worker starts one"
    )
    return UnstartedTask(attempt, False, told)


async def _last_failure(pending: PendingActivityInfo) -> tuple[int, str]:
    """
    Read the number of the next attempt, as the ledger counts, and why the last one
    has failed.
    """
    if not pending.HasField("last_failure"):
        return pending.attempt, ""
    error = await pydantic_data_converter.decode_failure(pending.last_failure)
    if isinstance(error, ApplicationError):
        match error.details:
            case [_, int(counted), *_] if counted:
                return counted + 1, error.message
        return pending.attempt, error.message
    return pending.attempt, str(error)
