"""
The one place that turns the end of an attempt into what happens next.

    heartbeat lost, or process
    died                         -> the same task again at once, from its checkpoint,
                                    until it has died too often without a saved step
                                    (`outlast/contracts/quarantine.py`)
    over the attempt limit       -> the same task again at once, from its checkpoint,
                                    until the policy's failures are used up
    worker drained, or of a
    release too old to read it;
    the store or a service was
    away for longer than the
    server retries by itself     -> the same task again at once, not counted
    superseded (stale)           -> the same task again, not counted: at once, and if
                                    that is superseded too, ever later
    no live worker for its role  -> the next route, or it waits
    parked                       -> parked
    a budget is spent            -> the next route, or the mission continues without it
    an effect needs approval     -> again from its checkpoint, once a person approves
    cancelled                    -> skipped
    anything else                -> the next route, or the task is a dead letter
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TimedOut

from outlast.contracts.approvals import WantedEffect
from outlast.contracts.attempts import Checkpoint, Heartbeat
from outlast.contracts.errors import (
    NewerStateError,
    StoreLostError,
    StoreUnavailableError,
)
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.quarantine import UNSEEN_DEATH, Death

# The server must not retry an attempt whose heartbeat it lost: its retry waits for a
# timer and cannot tell a death from a failure; the workflow retries at once and can.
# Nor must the server retry attempts that hit their limit: it would also count those
# that a worker refused because it could not read them.
LEFT_TO_THE_WORKFLOW = ["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]

# A death for which the fleet's parent has reported no cause.
UNREPORTED_DEATH = Death(own=True)


# By the name of the error that decoding the input has raised.
NEWER_STATE = {
    NewerStateError.__name__: Detector.NEWER_STATE,
    StoreUnavailableError.__name__: Detector.STORE,
    StoreLostError.__name__: Detector.STORE,
}


class Action(Enum):
    """
    What the supervisor does with a task whose attempt ended without a result.
    """

    REDISPATCH_CRASHED = auto()
    REDISPATCH_TIMED_OUT = auto()
    REDISPATCH_UNCOUNTED = auto()
    REDISPATCH_SUPERSEDED = auto()
    PARK = auto()
    SKIP = auto()
    NEXT_ROUTE = auto()
    REROUTE = auto()
    BUDGET_EXHAUSTED = auto()
    REQUEST_APPROVAL = auto()


# What follows by the failure's type, and what noticed the end where nothing says so.
DECIDED: dict[str, tuple[Action, Detector]] = {
    FailureType.CRASHED: (Action.REDISPATCH_CRASHED, Detector.EXIT),
    FailureType.NEVER_STARTED: (Action.REDISPATCH_CRASHED, Detector.EXIT),
    FailureType.DRAINED: (Action.REDISPATCH_UNCOUNTED, Detector.DRAIN),
    # The server has used up its own tries: the workflow dispatches the task anew.
    FailureType.STORE_AWAY: (Action.REDISPATCH_UNCOUNTED, Detector.STORE),
    FailureType.SERVICE_AWAY: (Action.REDISPATCH_UNCOUNTED, Detector.SERVICE),
    # Superseded while the server still waited for this attempt: no other one will
    # report.
    FailureType.STALE: (Action.REDISPATCH_SUPERSEDED, Detector.SUPERSEDED),
    FailureType.PARKED: (Action.PARK, Detector.FAILURE),
    FailureType.BUDGET_SPENT: (Action.BUDGET_EXHAUSTED, Detector.FAILURE),
    FailureType.APPROVAL_NEEDED: (Action.REQUEST_APPROVAL, Detector.FAILURE),
}

REDISPATCH = {
    Action.REDISPATCH_CRASHED,
    Action.REDISPATCH_TIMED_OUT,
    Action.REDISPATCH_UNCOUNTED,
    Action.REDISPATCH_SUPERSEDED,
}
# How an attempt that was handed back may end: none of it is counted.
RETURNS_WORK = {*REDISPATCH, Action.SKIP}


@dataclass(frozen=True)
class FailureDecision:
    """
    What happens next, why, and the checkpoint from which it continues.
    """

    next: Action
    cause: str
    checkpoint: Checkpoint | None = None
    attempts: int = 0
    never_started: bool = False  # no heartbeat ever arrived
    dispatch: int = 0  # number of the dispatch that superseded it
    wanted_effects: Sequence[WantedEffect] = ()  # effects that a person must approve
    death: Death = UNSEEN_DEATH  # what the fleet's parent knows of its process's end
    detected_by: Detector = Detector.FAILURE


COMPLETED_OUTSIDE = FailureDecision(
    Action.REDISPATCH_UNCOUNTED,
    "its attempt was completed from outside, with what is no answer",
    detected_by=Detector.OUTSIDE,
)


def classify_failure(error: ActivityError) -> FailureDecision:
    """
    Decide what follows from the end of an attempt.
    """
    match error.cause:
        case TimedOut(type=TimeoutType.HEARTBEAT) as lost:
            details = lost.last_heartbeat_details
            return FailureDecision(
                Action.REDISPATCH_CRASHED,
                "heartbeat timeout",
                _heartbeat_checkpoint(details),
                never_started=not details,
                detected_by=Detector.HEARTBEAT,
            )
        case TimedOut() as late:
            # Where the server counts an agent's failures, it has used up the retries by
            # now.
            left = error.retry_state is RetryState.NON_RETRYABLE_FAILURE
            ours = left and late.type is TimeoutType.START_TO_CLOSE
            return FailureDecision(
                Action.REDISPATCH_TIMED_OUT if ours else Action.NEXT_ROUTE,
                f"timed out: {late.message}",
                _heartbeat_checkpoint(late.last_heartbeat_details),
                detected_by=Detector.TIMEOUT,
            )
        case CancelledError():
            return FailureDecision(Action.SKIP, "cancelled")
        case ApplicationError() as raised:
            return _of_application_error(raised)
    return FailureDecision(Action.NEXT_ROUTE, str(error.cause or error))


def _of_application_error(error: ApplicationError) -> FailureDecision:
    if (unread := _is_newer_or_store(error)) is not None:
        cause = f"not read: {error.cause}"
        return FailureDecision(Action.REDISPATCH_UNCOUNTED, cause, detected_by=unread)
    by_default = (Action.NEXT_ROUTE, Detector.FAILURE)
    action, detector = DECIDED.get(error.type or "", by_default)
    unreported = error.type == FailureType.CRASHED and not error.details
    told = FailureDetails.of(error.details) or FailureDetails(
        detected_by=detector, death=UNREPORTED_DEATH if unreported else UNSEEN_DEATH
    )
    return FailureDecision(
        action,
        error.message,
        told.checkpoint,
        told.attempts,
        never_started=error.type == FailureType.NEVER_STARTED,
        dispatch=told.dispatch,
        wanted_effects=tuple(told.wanted),
        death=told.death,
        detected_by=told.detected_by,
    )


def _is_newer_or_store(error: ApplicationError) -> Detector | None:
    """
    Say why no worker that was asked could read the task: a newer release wrote it (see
    `State`), or its input is in a store that is away. None where neither is the reason.
    """
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return None
    return NEWER_STATE.get(cause.type or "")


def _heartbeat_checkpoint(details: object) -> Checkpoint | None:
    """
    Read the checkpoint of the last heartbeat; None where there is none that we can
    read.
    """
    match details:
        case [first, *_]:
            heartbeat = Heartbeat.read(first)
            return heartbeat.checkpoint if heartbeat else None
    return None
