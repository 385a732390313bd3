"""
How each end of an attempt is read.
"""

import pytest
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TerminatedError,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TimedOut

from outlast.contracts.errors import (
    DRAINED,
    FAILED,
    STALE,
    BudgetSpentError,
    CheckpointError,
    GiveUp,
    MissingSecretError,
    ParkedError,
    ResultError,
    StalledError,
    TaskError,
    TryLater,
)
from outlast.contracts.models import Beat, Checkpoint
from workflows.verdict import LEFT_TO_THE_WORKFLOW, Next, Verdict, judge

SAVED = Checkpoint(seq=7, route="worker", value={"done": 3})


def ended_by(cause: BaseException | None) -> ActivityError:
    """
    Make the error that the workflow sees.
    """
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="1@host",
        activity_type="worker",
        activity_id="a#worker#1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    error.__cause__ = cause
    return error


def raised(kind: str, *details: object) -> ActivityError:
    return ended_by(ApplicationError("what it said", *details, type=kind))


def lost(*details: object) -> ActivityError:
    return ended_by(
        TimedOut(
            "activity Heartbeat timeout",
            type=TimeoutType.HEARTBEAT,
            last_heartbeat_details=list(details),
        )
    )


def test_a_lost_heartbeat_is_a_crash_with_its_last_beat() -> None:
    """
    The task is dispatched again, from the checkpoint that the server has.
    """
    beat = Beat(checkpoint=SAVED, said="half way").model_dump(mode="json")
    assert judge(lost(beat)) == Verdict(Next.AGAIN_CRASHED, "heartbeat timeout", SAVED)


@pytest.mark.parametrize(
    "details",
    [(), ("garbage",), ({"stranger": 1},), (None,), (17, "more")],
    ids=["none", "text", "stranger", "null", "number"],
)
def test_a_crash_with_an_unreadable_beat_starts_from_what_is_known(details) -> None:
    """
    A beat that is missing or of another release costs no more than itself.
    """
    assert judge(lost(*details)) == Verdict(Next.AGAIN_CRASHED, "heartbeat timeout")


@pytest.mark.parametrize(
    "kind",
    [
        TimeoutType.START_TO_CLOSE,
        TimeoutType.SCHEDULE_TO_CLOSE,
        TimeoutType.SCHEDULE_TO_START,
        None,
    ],
)
def test_any_other_timeout_takes_the_next_route(kind: TimeoutType | None) -> None:
    """
    A runaway is not a death: its retries are spent, somebody else shall try.
    """
    error = TimedOut("took too long", type=kind, last_heartbeat_details=[])
    verdict = judge(ended_by(error))
    assert verdict.next is Next.NEXT_ROUTE
    assert verdict.cause == "timed out: took too long"


def test_a_cancelled_attempt_is_skipped() -> None:
    """
    Nobody tries again what was cancelled.
    """
    assert judge(ended_by(CancelledError("Cancelled"))).next is Next.SKIP


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        (DRAINED, Next.AGAIN_HANDED_ON),
        (STALE, Next.AGAIN_CRASHED),
        (ParkedError.kind, Next.PARK),
        (GiveUp.kind, Next.NEXT_ROUTE),
        (FAILED, Next.NEXT_ROUTE),
        ("ValueError", Next.NEXT_ROUTE),
        ("", Next.NEXT_ROUTE),
        (None, Next.NEXT_ROUTE),
    ],
)
def test_each_kind_of_error_decides_what_happens_next(kind, then: Next) -> None:
    """
    One line for each kind, with cause, checkpoint and number of attempts.
    """
    verdict = judge(raised(kind, SAVED.model_dump(mode="json"), 4))
    assert verdict == Verdict(then, "what it said", SAVED, 4)


@pytest.mark.parametrize("kind", [DRAINED, STALE, FAILED])
def test_an_error_without_details_has_no_checkpoint(kind: str) -> None:
    """
    What the SDK itself reports carries nothing of ours.
    """
    verdict = judge(raised(kind))
    assert verdict.checkpoint is None
    assert verdict.attempts == 0


@pytest.mark.parametrize(
    "details",
    [("by hand",), ({"stranger": 1}, 2), (None, None), (SAVED.model_dump(), "many")],
    ids=["text", "another release", "nulls", "no number"],
)
def test_an_error_with_details_of_others_is_judged_all_the_same(details) -> None:
    """
    What an operator or another release put there must not leave a task undecided.
    """
    verdict = judge(raised(FAILED, *details))
    assert verdict.next is Next.NEXT_ROUTE
    assert verdict.cause == "what it said"
    assert verdict.attempts == 0 or isinstance(verdict.attempts, int)


@pytest.mark.parametrize(
    "cause", [None, TerminatedError("terminated"), ValueError("odd")], ids=repr
)
def test_an_unknown_end_takes_the_next_route(cause) -> None:
    """
    What nobody has thought of is decided too, and says something.
    """
    verdict = judge(ended_by(cause))
    assert verdict.next is Next.NEXT_ROUTE
    assert verdict.cause


def test_the_server_leaves_lost_heartbeats_to_the_workflow() -> None:
    """
    This type, exactly, is what the server names a heartbeat timeout.
    """
    assert LEFT_TO_THE_WORKFLOW == ["TemporalTimeout:Heartbeat"]


def test_the_kinds_of_errors_are_those_of_their_branches() -> None:
    """
    A subclass carries its branch's kind, since the server matches exact names.
    """
    for error in (GiveUp, BudgetSpentError, MissingSecretError, CheckpointError):
        assert error.kind == "GiveUp"
    own = [TaskError, TryLater, StalledError, ResultError, GiveUp, ParkedError]
    kinds = [each.kind for each in own]
    assert len(set(kinds)) == len(kinds)
    assert not {DRAINED, STALE, FAILED} & set(kinds)
