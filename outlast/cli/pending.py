"""
Why a task has no attempt at work: it backs off after a failure, or waits for a worker.

The server knows: it keeps the last failure of an attempt that it will start again, and
when. Both look the same in a mission's own eyes.
"""

from dataclasses import dataclass

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

# A retry that is due is with a worker within this, or waits for one.
DUE_S = 0.5


@dataclass(frozen=True)
class Unstarted:
    """
    A task whose next attempt is not at work.

    :param attempt: the number of that attempt.
    :param backs_off: it will be tried at its time; else it waits for a worker.
    :param told: what there is to say of that.
    """

    attempt: int
    backs_off: bool
    told: str


async def unstarted_of(pending: PendingActivityInfo, now: float) -> Unstarted | None:
    """
    Read why an attempt is not at work; None when it is.
    """
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return None
    attempt, cause = await _last_failure(pending)
    left_s = pending.next_attempt_schedule_time.ToMicroseconds() / 1e6 - now
    return unstarted(pending.activity_type.name, attempt, cause, left_s)


def unstarted(role: str, attempt: int, cause: str, left_s: float) -> Unstarted:
    """
    Say what the attempt waits for, which is to begin in *left_s*.

    :param cause: of the failure before it; "" when there was none.
    """
    after = f", after {cause}" if cause else ""
    if cause and left_s > -DUE_S:
        when = f"in {left_s:.0f} s" if left_s >= 1 else "at once"
        return Unstarted(attempt, True, f"attempt {attempt} {when}{after}")
    told = (
        f"for a free worker of role {role}{after}; `starter.py workers` lists them, "
        "worker.py starts one"
    )
    return Unstarted(attempt, False, told)


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
