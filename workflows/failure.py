"""
How an attempt's end is read: the one place that turns a failure into what happens next.

    heartbeat lost, or process
    died                         -> the same task again at once, from its checkpoint,
                                    until it has died too often without a saved step
                                    (`outlast/contracts/quarantine.py`)
    over the attempt limit       -> the same task again at once, from its checkpoint,
                                    until the policy's failures are used up
    worker drained, or of a
    release too old to read it;
    the store was away           -> the same task again at once, not counted
    superseded (stale)           -> the same task again, not counted: at once, and if
                                    that is superseded too, ever later
    nobody plays its role        -> the next route, or it waits
    parked                       -> parked
    a budget is spent            -> the next route, or the mission goes on without it
    an effect needs approval     -> again from its checkpoint, once a person approves
    cancelled                    -> skipped
    anything else                -> the next route, or the task is dead
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pydantic import ValidationError
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TimedOut

from outlast.contracts.approvals import WantedEffect
from outlast.contracts.errors import (
    NewerStateError,
    StoreAwayError,
    StoreLostError,
)
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.models import Beat, Checkpoint
from outlast.contracts.quarantine import UNSEEN, Death

# The server must not retry what it lost the heartbeat of: its retry waits for a
# timer and cannot tell a death from a failure. The workflow can. Nor must it count
# attempts that were too long: it would count those too that a worker has refused
# because it could not read them.
LEFT_TO_THE_WORKFLOW = ["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]

# The death of a process of which nothing else is told.
UNTOLD = Death(own=True)


# By the name of what its decoding has raised.
UNREAD = {
    NewerStateError.__name__: Detector.NEWER_STATE,
    StoreAwayError.__name__: Detector.STORE,
    StoreLostError.__name__: Detector.STORE,
}

# What has noticed an end of which only the type is known.
DETECTED: dict[str, Detector] = {
    FailureType.CRASHED: Detector.EXIT,
    FailureType.NEVER_STARTED: Detector.EXIT,
    FailureType.DRAINED: Detector.DRAIN,
    FailureType.STORE_AWAY: Detector.STORE,
    FailureType.STALE: Detector.SUPERSEDED,
}


class Next(Enum):
    """
    What the supervisor does with a task whose attempt has ended without a result.
    """

    AGAIN_CRASHED = auto()
    AGAIN_TOO_LONG = auto()
    AGAIN_HANDED_ON = auto()
    AGAIN_SUPERSEDED = auto()
    PARK = auto()
    SKIP = auto()
    NEXT_ROUTE = auto()
    REROUTE = auto()
    SPENT = auto()
    ASK = auto()


DECIDED: dict[str, Next] = {
    FailureType.CRASHED: Next.AGAIN_CRASHED,
    FailureType.NEVER_STARTED: Next.AGAIN_CRASHED,
    FailureType.DRAINED: Next.AGAIN_HANDED_ON,
    # The server's own tries are used up: it is dispatched anew.
    FailureType.STORE_AWAY: Next.AGAIN_HANDED_ON,
    # Superseded, yet the server still waited for it: no other attempt will report.
    FailureType.STALE: Next.AGAIN_SUPERSEDED,
    FailureType.PARKED: Next.PARK,
    FailureType.BUDGET_SPENT: Next.SPENT,
    FailureType.APPROVAL_NEEDED: Next.ASK,
}


@dataclass(frozen=True)
class Verdict:
    """
    What happens next, why, and the checkpoint to go on from.
    """

    next: Next
    cause: str
    checkpoint: Checkpoint | None = None
    attempts: int = 0
    unbegun: bool = False  # no beat ever came of it
    dispatch: int = 0  # of the attempt that has superseded it
    wanted: Sequence[WantedEffect] = ()  # what a person is asked about
    death: Death = UNSEEN  # what is known of its process's end
    detected_by: Detector = Detector.FAILURE


def judge(error: ActivityError) -> Verdict:
    """
    Read the end of an attempt.
    """
    match error.cause:
        case TimedOut(type=TimeoutType.HEARTBEAT) as lost:
            beats = lost.last_heartbeat_details
            return Verdict(
                Next.AGAIN_CRASHED,
                "heartbeat timeout",
                _beaten(beats),
                unbegun=not beats,
                detected_by=Detector.HEARTBEAT,
            )
        case TimedOut() as late:
            # Where the server was to count them, its retries are spent by now.
            left = error.retry_state is RetryState.NON_RETRYABLE_FAILURE
            ours = left and late.type is TimeoutType.START_TO_CLOSE
            return Verdict(
                Next.AGAIN_TOO_LONG if ours else Next.NEXT_ROUTE,
                f"timed out: {late.message}",
                _beaten(late.last_heartbeat_details),
                detected_by=Detector.TIMEOUT,
            )
        case CancelledError():
            return Verdict(Next.SKIP, "cancelled")
        case ApplicationError() as raised:
            return _raised(raised)
    return Verdict(Next.NEXT_ROUTE, str(error.cause or error))


def _raised(error: ApplicationError) -> Verdict:
    if (unread := _unread(error)) is not None:
        cause = f"not read: {error.cause}"
        return Verdict(Next.AGAIN_HANDED_ON, cause, detected_by=unread)
    told = FailureDetails.of(error.details) or FailureDetails(
        detected_by=DETECTED.get(error.type or "", Detector.FAILURE),
        death=UNSEEN if error.details or error.type != FailureType.CRASHED else UNTOLD,
    )
    return Verdict(
        DECIDED.get(error.type or "", Next.NEXT_ROUTE),
        error.message,
        told.checkpoint,
        told.attempts,
        unbegun=error.type == FailureType.NEVER_STARTED,
        dispatch=told.dispatch,
        wanted=tuple(told.wanted),
        death=told.death,
        detected_by=told.detected_by,
    )


def _unread(error: ApplicationError) -> Detector | None:
    """
    Say why no worker that was asked could read the task: it is of a newer release, see
    `State`, or its input lies in the store, which is away. None where one could.
    """
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return None
    return UNREAD.get(cause.type or "")


def _beaten(details: object) -> Checkpoint | None:
    """
    Read the checkpoint of the last heartbeat, if one that we understand arrived.
    """
    match details:
        case [first, *_]:
            try:
                return Beat.model_validate(first).checkpoint
            except ValidationError:
                return None
    return None
