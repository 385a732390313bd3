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
    CRASHED,
    DRAINED,
    NEVER_STARTED,
    STALE,
    STORE_AWAY,
    ApprovalNeededError,
    BudgetSpentError,
    NewerStateError,
    ParkedError,
    StoreAwayError,
    StoreLostError,
)
from outlast.contracts.models import Beat, Checkpoint
from outlast.contracts.quarantine import UNSEEN, Death

# The server must not retry what it lost the heartbeat of: its retry waits for a
# timer and cannot tell a death from a failure. The workflow can. Nor must it count
# attempts that were too long: it would count those too that a worker has refused
# because it could not read them.
LEFT_TO_THE_WORKFLOW = ["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"]

# What the parent of a fleet reports of a process that is dead, and how one of the
# release before meant it, which told nothing of its end.
DEATHS = {CRASHED, NEVER_STARTED}
UNTOLD = Death(own=True)


UNREAD = {each.__name__ for each in (NewerStateError, StoreAwayError, StoreLostError)}


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
            )
        case TimedOut() as late:
            # Where the server was to count them, its retries are spent by now.
            left = error.retry_state is RetryState.NON_RETRYABLE_FAILURE
            ours = left and late.type is TimeoutType.START_TO_CLOSE
            return Verdict(
                Next.AGAIN_TOO_LONG if ours else Next.NEXT_ROUTE,
                f"timed out: {late.message}",
                _beaten(late.last_heartbeat_details),
            )
        case CancelledError():
            return Verdict(Next.SKIP, "cancelled")
        case ApplicationError() as raised:
            return _raised(raised)
    return Verdict(Next.NEXT_ROUTE, str(error.cause or error))


def _raised(error: ApplicationError) -> Verdict:
    checkpoint, attempts = _details(error.details)
    if _unread(error):
        return Verdict(Next.AGAIN_HANDED_ON, f"not read: {error.cause}")
    decided = {
        CRASHED: Next.AGAIN_CRASHED,
        NEVER_STARTED: Next.AGAIN_CRASHED,
        DRAINED: Next.AGAIN_HANDED_ON,
        # The server's own tries are used up: it is dispatched anew.
        STORE_AWAY: Next.AGAIN_HANDED_ON,
        # Superseded, yet the server still waited for it: no other attempt will report.
        STALE: Next.AGAIN_SUPERSEDED,
        ParkedError.kind: Next.PARK,
        BudgetSpentError.kind: Next.SPENT,
        ApprovalNeededError.kind: Next.ASK,
    }.get(error.type or "", Next.NEXT_ROUTE)
    return Verdict(
        decided,
        error.message,
        checkpoint,
        attempts,
        unbegun=error.type == NEVER_STARTED,
        dispatch=_dispatch(error.details) if error.type == STALE else 0,
        wanted=_wanted(error.details) if decided is Next.ASK else (),
        death=_death(error),
    )


def _dispatch(details: Sequence[object]) -> int:
    """
    Read which dispatch has superseded an attempt.
    """
    match details:
        case [_, _, int(dispatch), *_]:
            return dispatch
    return 0


def _death(error: ApplicationError) -> Death:
    """
    Read what the parent of a fleet has seen of the end of a process.
    """
    match error.details:
        case [_, _, seen, *_] if error.type in DEATHS:
            try:
                return Death.model_validate(seen)
            except ValidationError:
                return UNSEEN
        case _ if error.type == CRASHED:
            return UNTOLD
    return UNSEEN


def _wanted(details: Sequence[object]) -> Sequence[WantedEffect]:
    """
    Read the effects that an attempt wants approved.
    """
    match details:
        case [_, _, list(wanted), *_]:
            try:
                return [WantedEffect.model_validate(each) for each in wanted]
            except ValidationError:
                return ()
    return ()


def _unread(error: ApplicationError) -> bool:
    """
    Say whether no worker that was asked could read the task: it is of a newer release,
    see `State`, or its input lies in the store, which is away.
    """
    cause = error.cause
    return isinstance(cause, ApplicationError) and cause.type in UNREAD


def _details(details: Sequence[object]) -> tuple[Checkpoint | None, int]:
    """
    Read the checkpoint and the number of attempts, if it was us who wrote them.
    """
    match details:
        case [saved, int(attempts), *_]:
            try:
                return Checkpoint.model_validate(saved), attempts
            except ValidationError:
                return None, attempts
    return None, 0


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
