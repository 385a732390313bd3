"""
How each end of an attempt is read.
"""

import asyncio
from typing import Any

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
from unit_fakes import answer, assignment

from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.errors import (
    ApprovalNeededError,
    BudgetExceededError,
    CheckpointError,
    CircuitOpenError,
    GiveUp,
    MissingSecretError,
    ParkedError,
    ResultError,
    StalledError,
    TaskError,
    TryLater,
)
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.prior_run import DispatchState
from outlast.contracts.quarantine import QUARANTINE_WAITS_S, Death
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import Policy
from outlast.workflows.dispatch import DispatchNumbers
from outlast.workflows.failure import (
    LEFT_TO_THE_WORKFLOW,
    Action,
    FailureDecision,
    classify_failure,
)
from outlast.workflows.renewal import Renewal
from outlast.workflows.task_dispatch import TaskDispatch

RUN_S = 0.1  # what each attempt takes
SAVED = Checkpoint(seq=7, route="worker", value={"done": 3})


def ended_by(
    cause: BaseException | None,
    retry_state: RetryState = RetryState.NON_RETRYABLE_FAILURE,
) -> ActivityError:
    """
    Make the error that the workflow sees.
    """
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="1@host",
        activity_type="worker",
        activity_id="a~attempt~worker~1",
        retry_state=retry_state,
    )
    error.__cause__ = cause
    return error


def raised(kind: str, *details: object) -> ActivityError:
    return ended_by(ApplicationError("what it said", *details, type=kind))


def telling(
    kind: str,
    saved: Checkpoint | None = None,
    attempts: int = 0,
    detected_by: Detector = Detector.FAILURE,
    **more: Any,
) -> ActivityError:
    """
    Make an end of which everything is told.
    """
    details = FailureDetails(
        detected_by=detected_by, checkpoint=saved, attempts=attempts, **more
    )
    return raised(kind, details.dump())


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
    beat = Heartbeat(checkpoint=SAVED, status_message="half way").model_dump(
        mode="json"
    )
    assert classify_failure(lost(beat)) == FailureDecision(
        Action.REDISPATCH_CRASHED,
        "heartbeat timeout",
        SAVED,
        detected_by=Detector.HEARTBEAT,
    )


@pytest.mark.parametrize(
    "details",
    [(), ("garbage",), ({"stranger": 1},), (None,), (17, "more")],
    ids=["none", "text", "stranger", "null", "number"],
)
def test_a_crash_with_an_unreadable_beat_starts_from_what_is_known(details) -> None:
    """
    A beat that is missing or of another release costs no more than itself.
    """
    expected = FailureDecision(
        Action.REDISPATCH_CRASHED,
        "heartbeat timeout",
        never_started=not details,
        detected_by=Detector.HEARTBEAT,
    )
    assert classify_failure(lost(*details)) == expected


def too_long(*details: object, retry_state: RetryState) -> ActivityError:
    error = TimedOut(
        "took too long",
        type=TimeoutType.START_TO_CLOSE,
        last_heartbeat_details=list(details),
    )
    return ended_by(error, retry_state)


def test_an_attempt_over_its_limit_is_followed_by_another() -> None:
    """
    It goes on from the checkpoint that the server has.
    """
    beat = Heartbeat(checkpoint=SAVED).model_dump(mode="json")
    decision = classify_failure(
        too_long(beat, retry_state=RetryState.NON_RETRYABLE_FAILURE)
    )
    expected = FailureDecision(
        Action.REDISPATCH_TIMED_OUT,
        "timed out: took too long",
        SAVED,
        detected_by=Detector.TIMEOUT,
    )
    assert decision == expected


def test_an_attempt_over_its_limit_is_judged_as_it_was_dispatched() -> None:
    """
    A mission of the release before, where the server did the counting, replays: its
    task took the next route when the server's retries were spent.
    """
    spent = too_long(retry_state=RetryState.MAXIMUM_ATTEMPTS_REACHED)
    assert classify_failure(spent).next is Action.NEXT_ROUTE


def unread() -> ActivityError:
    """
    Make what is left when every worker that was asked could not read the task.
    """
    refused = ApplicationError("Failed decoding arguments")
    sentence = "m was written by a newer release"
    refused.__cause__ = ApplicationError(sentence, type="NewerStateError")
    return ended_by(refused, RetryState.MAXIMUM_ATTEMPTS_REACHED)


def test_what_workers_were_too_old_to_read_is_handed_on() -> None:
    """
    That they refused it is no failure of the agent's, which never saw it.
    """
    decision = classify_failure(unread())
    assert decision.next is Action.REDISPATCH_UNCOUNTED
    assert "m was written by a newer release" in decision.cause


@pytest.mark.parametrize(
    "kind",
    [
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
    decision = classify_failure(ended_by(error))
    assert decision.next is Action.NEXT_ROUTE
    assert decision.cause == "timed out: took too long"


def test_a_cancelled_attempt_is_skipped() -> None:
    """
    Nobody tries again what was cancelled.
    """
    assert classify_failure(ended_by(CancelledError("Cancelled"))).next is Action.SKIP


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        (FailureType.DRAINED, Action.REDISPATCH_UNCOUNTED),
        (FailureType.STORE_AWAY, Action.REDISPATCH_UNCOUNTED),
        (FailureType.SERVICE_AWAY, Action.REDISPATCH_UNCOUNTED),
        (FailureType.STALE, Action.REDISPATCH_SUPERSEDED),
        (FailureType.NEVER_STARTED, Action.REDISPATCH_CRASHED),
        (ParkedError.kind, Action.PARK),
        (BudgetExceededError.kind, Action.BUDGET_EXHAUSTED),
        (ApprovalNeededError.kind, Action.REQUEST_APPROVAL),
        (GiveUp.kind, Action.NEXT_ROUTE),
        (FailureType.FAILED, Action.NEXT_ROUTE),
        ("ValueError", Action.NEXT_ROUTE),
        ("", Action.NEXT_ROUTE),
        (None, Action.NEXT_ROUTE),
    ],
)
def test_each_kind_of_error_decides_what_happens_next(kind, then: Action) -> None:
    """
    One line for each kind, with cause, checkpoint and number of attempts.
    """
    decision = classify_failure(telling(kind, SAVED, 4, Detector.WATCHDOG))
    assert decision == FailureDecision(
        then,
        "what it said",
        SAVED,
        4,
        never_started=kind == FailureType.NEVER_STARTED,
        detected_by=Detector.WATCHDOG,
    )


def test_a_superseded_attempt_tells_which_dispatch_has_its_task() -> None:
    """
    So that the next one comes after it, also where the server was restored.
    """
    decision = classify_failure(telling(FailureType.STALE, SAVED, 4, dispatch=71))
    assert (decision.next, decision.dispatch) == (Action.REDISPATCH_SUPERSEDED, 71)
    assert classify_failure(raised(FailureType.FAILED)).dispatch == 0


@pytest.mark.parametrize(
    "kind", [FailureType.DRAINED, FailureType.STALE, FailureType.FAILED]
)
def test_an_error_without_details_has_no_checkpoint(kind: str) -> None:
    """
    What the SDK itself reports carries nothing of ours.
    """
    decision = classify_failure(raised(kind))
    assert decision.checkpoint is None
    assert decision.attempts == 0


@pytest.mark.parametrize(
    "details",
    [("by hand",), ({"stranger": 1}, 2), (None, None), ({"detected_by": "me"},)],
    ids=["text", "another release", "nulls", "no detector"],
)
def test_an_error_with_details_of_others_is_judged_all_the_same(details) -> None:
    """
    What an operator or another release put there must not leave a task undecided.
    """
    decision = classify_failure(raised(FailureType.FAILED, *details))
    assert decision.next is Action.NEXT_ROUTE
    assert decision.cause == "what it said"
    assert decision.attempts == 0 or isinstance(decision.attempts, int)


@pytest.mark.parametrize(
    "cause", [None, TerminatedError("terminated"), ValueError("odd")], ids=repr
)
def test_an_unknown_end_takes_the_next_route(cause) -> None:
    """
    What nobody has thought of is decided too, and says something.
    """
    decision = classify_failure(ended_by(cause))
    assert decision.next is Action.NEXT_ROUTE
    assert decision.cause


def test_the_server_leaves_timeouts_to_the_workflow() -> None:
    """
    These types, exactly, are what the server names a lost heartbeat and an attempt
    over its limit.
    """
    kinds = ("Heartbeat", "StartToClose")
    assert [f"TemporalTimeout:{kind}" for kind in kinds] == LEFT_TO_THE_WORKFLOW


def test_the_kinds_of_errors_are_those_of_their_branches() -> None:
    """
    A subclass carries its branch's kind, since the server matches exact names; those
    about which the workflow decides otherwise have their own.
    """
    for error in (GiveUp, MissingSecretError, CheckpointError, ResultError):
        assert error.kind == "GiveUp"
    own = [TaskError, TryLater, StalledError, CircuitOpenError, GiveUp, ParkedError]
    own += [BudgetExceededError, ApprovalNeededError]
    kinds = [each.kind for each in own]
    assert len(set(kinds)) == len(kinds)
    assert not {FailureType.DRAINED, FailureType.STALE, FailureType.FAILED} & set(kinds)


# What a dispatch makes of one end after the other


class Scripted(TaskDispatch):
    """
    A `TaskDispatch` whose dispatches end as they are told, without a server.
    """

    def __init__(self, *ends: ActivityError | ResultRef, stopped: str | None = None):
        crashes = Policy(crashes=2, failures=3)
        given = assignment().model_copy(update={"policy": crashes})
        self.renewal = Renewal()
        super().__init__(
            given, "worker", DispatchNumbers(), lambda: stopped, self.renewal
        )
        self.ends = list(ends)
        self.given: list[AttemptInput] = []
        self.alone: list[bool] = []
        self.asked = 0
        self.in_ledger: ResultRef | None = None
        self.waited_s: list[float] = []
        self.said: list[str] = []  # of these waits, for the board
        self.clock_s = 0.0

    def _now(self) -> float:
        return getattr(self, "clock_s", 0.0)

    def _random(self) -> float:
        return 0.0

    async def _sleep(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.said.append(self.waits)
        self.clock_s += seconds

    async def _recorded_answer(self) -> ResultRef | None:
        self.asked += 1
        return self.in_ledger

    async def _dispatch(self) -> ResultRef:
        self.given.append(self._next_input())
        self.clock_s += RUN_S
        self.alone.append(self.in_quarantine)
        end = self.ends.pop(0)
        if isinstance(end, ActivityError):
            raise end
        return end


def died(seq: int) -> ActivityError:
    beat = Heartbeat(checkpoint=Checkpoint(seq=seq, route="worker"))
    return lost(beat.model_dump(mode="json"))


def reported(seq: int, **death: Any) -> ActivityError:
    saved = Checkpoint(seq=seq, route="worker")
    return telling(FailureType.CRASHED, saved, 1, death=Death(**death))


def faulted(seq: int) -> ActivityError:
    return reported(seq, own=True)


def killed(seq: int) -> ActivityError:
    return reported(seq, watched_s=86_400.0)


def stormed(seq: int) -> ActivityError:
    return reported(seq, watched_s=86_400.0, other_s=0.1, outside_s=0.1)


EMPTY = Checkpoint()
DONE = answer("done")


async def test_a_death_is_followed_by_a_dispatch_from_its_checkpoint() -> None:
    """
    The next attempt is told where the last one was and what ended it.
    """
    dispatch = Scripted(died(4), DONE)
    assert await dispatch.run() == DONE
    assert dispatch.given[0].checkpoint is None
    assert dispatch.given[1].checkpoint == Checkpoint(seq=4, route="worker")
    assert dispatch.given[1].previous_failure == "heartbeat timeout"


@pytest.mark.parametrize("details", [(), ({"another": "release"},)])
async def test_a_death_without_a_beat_keeps_the_checkpoint(details) -> None:
    """
    What was known before it stays known.
    """
    dispatch = Scripted(died(4), lost(*details), DONE)
    await dispatch.run()
    assert dispatch.given[2].checkpoint == Checkpoint(seq=4, route="worker")


async def test_too_many_deaths_without_a_saved_step_take_the_next_route() -> None:
    """
    After the policy's deaths it runs alone, one more there that explains itself
    convicts it, and the cause says how often it died.
    """
    dispatch = Scripted(died(2), died(2), faulted(2), DONE)
    decision = await dispatch.run()
    assert isinstance(decision, FailureDecision)
    assert decision.next is Action.NEXT_ROUTE
    assert decision.cause.startswith("died 3 times at one step")
    assert decision.attempts == 3
    assert dispatch.alone == [False, False, True]


async def test_kills_in_calm_weather_convict_at_the_fifth() -> None:
    """
    Where no other process dies meanwhile, three alone in a row; it waits before the
    attempts that may convict it, and the cause says all of it.
    """
    dispatch = Scripted(*[killed(2)] * 5, DONE)
    decision = await dispatch.run()
    assert isinstance(decision, FailureDecision)
    assert decision.cause.startswith("died 5 times at one step, the last 3 alone while")
    assert dispatch.alone == [False, False, True, True, True]
    assert dispatch.waited_s == [*QUARANTINE_WAITS_S[1:3]]
    assert "in quarantine after 4 deaths" in dispatch.said[1]
    assert dispatch.waits == ""


async def test_a_storm_convicts_nobody() -> None:
    """
    However often it is killed alone, while others are killed much more often.
    """
    dispatch = Scripted(*[stormed(2)] * 50, DONE)
    assert await dispatch.run() == DONE


async def test_lost_heartbeats_alone_convict_nobody_soon() -> None:
    """
    An outage of the server loses the heartbeats of all that it lasts too long for.
    """
    dispatch = Scripted(*[died(2)] * 10, DONE)
    assert await dispatch.run() == DONE


async def test_progress_in_quarantine_ends_it() -> None:
    """
    What it had died of there weighs no more when it dies at another step.
    """
    ends = [killed(1)] * 4, [killed(2)] * 4
    dispatch = Scripted(*ends[0], *ends[1], DONE)
    assert await dispatch.run() == DONE


async def test_quarantine_goes_on_in_a_new_run() -> None:
    """
    What deaths weigh there is carried with the rest.
    """
    first = Scripted(*[killed(2)] * 4, DONE)
    assert await first.run() == DONE
    second = Scripted(killed(2), DONE)
    second.clock_s = first.clock_s
    second.state = first.state
    decision = await second.run()
    assert isinstance(decision, FailureDecision)
    assert decision.cause.startswith("died 5 times at one step, the last 3 alone while")


async def test_a_report_that_told_nothing_convicts_as_it_did() -> None:
    """
    Who reports no more than a type and a cause means a death of its own.
    """
    old = raised(FailureType.CRASHED)
    dispatch = Scripted(old, old, old, DONE)
    assert isinstance(await dispatch.run(), FailureDecision)
    odd = raised(FailureType.CRASHED, {"detected_by": "exit_report", "death": "odd"})
    assert await Scripted(old, old, odd, odd, DONE).run() == DONE


@pytest.mark.parametrize(
    "ends",
    [
        [died(2), died(2), faulted(2)],
        [raised(GiveUp.kind)],
        [raised(FailureType.FAILED)],
        [raised(ParkedError.kind)],
        [raised(BudgetExceededError.kind)],
    ],
    ids=["convicted", "given up", "failed", "parked", "spent"],
)
async def test_before_any_decision_the_ledger_is_asked(ends) -> None:
    """
    A recorded result wins; without one the decision stands, and is not asked for twice.
    """
    done = Scripted(*ends)
    done.in_ledger = DONE
    assert await done.run() == DONE
    stands = Scripted(*ends)
    assert isinstance(await stands.run(), FailureDecision)
    assert (done.asked, stands.asked) == (1, 1)


async def test_a_death_that_is_followed_by_another_try_asks_nobody() -> None:
    """
    The next attempt asks by itself as it begins, and nobody waits in between.
    """
    dispatch = Scripted(died(2), DONE)
    await dispatch.run()
    assert dispatch.asked == 0


async def test_a_suspect_that_comes_further_alone_is_cleared() -> None:
    """
    Its deaths were a neighbour's fault: it runs among others again.
    """
    dispatch = Scripted(died(2), died(2), died(3), DONE)
    assert await dispatch.run() == DONE
    assert dispatch.alone == [False, False, True, False]


async def test_a_saved_step_starts_the_count_anew() -> None:
    """
    Whoever comes further each time is not given up.
    """
    dispatch = Scripted(died(1), died(2), died(2), died(3), died(3), DONE)
    assert await dispatch.run() == DONE


async def test_an_attempt_that_had_nothing_in_hand_loses_nothing() -> None:
    """
    One that was refused or drained before it resumed reports an empty checkpoint,
    which must not replace the one that is known.
    """
    for kind in (FailureType.STALE, FailureType.DRAINED):
        dispatch = Scripted(died(5), telling(kind, EMPTY, 2), DONE)
        await dispatch.run()
        assert dispatch.given[2].checkpoint == Checkpoint(seq=5, route="worker")


@pytest.mark.parametrize("kind", [FailureType.STALE, FailureType.DRAINED])
async def test_an_empty_checkpoint_is_no_progress(kind: str) -> None:
    """
    Deaths at one and the same step are counted on, whatever came between them.
    """
    between = telling(kind, EMPTY, 2)
    dispatch = Scripted(died(5), between, died(5), between, faulted(5))
    decision = await dispatch.run()
    assert isinstance(decision, FailureDecision)
    assert decision.next is Action.NEXT_ROUTE


async def test_being_superseded_is_no_death() -> None:
    """
    However often a death comes after it, and the next dispatch comes after the one that
    the ledger has.
    """
    stale = telling(FailureType.STALE, EMPTY, 2, dispatch=71)
    dispatch = Scripted(
        died(5), *[stale, telling(FailureType.DRAINED, EMPTY, 2)] * 20, DONE
    )
    assert await dispatch.run() == DONE
    assert dispatch.state.deaths == 1
    assert dispatch._numbers.next() == 72


def test_dispatches_are_counted_on() -> None:
    """
    From what another run has counted, and never down.
    """
    numbers = DispatchNumbers(4)
    assert (numbers.next(), numbers.next()) == (5, 6)
    numbers.skip_to(3)
    assert numbers.next() == 7
    numbers.skip_to(99)
    assert numbers.next() == 100


async def test_being_handed_on_is_no_death() -> None:
    """
    However often workers are drained, the task goes on.
    """
    drained = telling(FailureType.DRAINED, SAVED, 1)
    dispatch = Scripted(*[drained] * 20, DONE)
    assert await dispatch.run() == DONE
    assert dispatch.given[-1].checkpoint == SAVED


LATE = too_long(retry_state=RetryState.NON_RETRYABLE_FAILURE)


async def test_attempts_over_their_limit_use_up_the_failures() -> None:
    """
    Each leaves the task one failure less; the last one takes the next route.
    """
    dispatch = Scripted(LATE, LATE, LATE, DONE)
    decision = await dispatch.run()
    assert isinstance(decision, FailureDecision)
    assert (decision.next, decision.attempts) == (Action.NEXT_ROUTE, 3)
    assert [each.policy.failures for each in dispatch.given] == [3, 2, 1]


async def test_an_attempt_over_its_limit_is_no_death() -> None:
    """
    It makes no suspect of the task.
    """
    dispatch = Scripted(died(2), LATE, LATE, DONE)
    assert await dispatch.run() == DONE
    assert dispatch.alone == [False] * 4


async def test_being_refused_by_old_workers_costs_nothing() -> None:
    """
    However often it is refused, the task keeps its failures and its deaths.
    """
    dispatch = Scripted(*[unread()] * 20, DONE)
    assert await dispatch.run() == DONE
    assert dispatch.given[-1].policy == dispatch.given[0].policy
    assert not any(dispatch.alone)


@pytest.mark.parametrize(
    "end", [died(1), raised(FailureType.DRAINED), raised(FailureType.STALE), LATE]
)
async def test_nothing_is_dispatched_again_once_stopped(end: ActivityError) -> None:
    """
    A death while the mission is being stopped is a skipped task, and says why.
    """
    decision = await Scripted(end, DONE, stopped="cancelled by Ann").run()
    assert isinstance(decision, FailureDecision)
    assert (decision.next, decision.cause) == (Action.SKIP, "cancelled by Ann")


@pytest.mark.parametrize("kind", [GiveUp.kind, FailureType.FAILED, ParkedError.kind])
async def test_what_another_try_will_not_change_is_handed_up(kind: str) -> None:
    """
    The next route, or a person, is the supervisor's to choose.
    """
    decision = await Scripted(raised(kind), DONE).run()
    assert decision == classify_failure(raised(kind))


class HandedBack(Scripted):
    """
    A `TaskDispatch` whose attempts are taken back while they end as they are told.
    """

    async def _dispatch(self) -> ResultRef:
        self.renewal.due = self._handed_back = True
        return await super()._dispatch()


@pytest.mark.parametrize(
    "end",
    [
        died(4),
        telling(FailureType.CRASHED, EMPTY, 2),
        telling(FailureType.DRAINED, EMPTY, 1),
        ended_by(CancelledError()),
    ],
    ids=["lost", "died", "drained", "cancelled"],
)
async def test_what_is_handed_back_is_not_counted(end: ActivityError) -> None:
    """
    However the attempt ends meanwhile; nothing is dispatched in this run any more, and
    the next one goes on from what was known.
    """
    dispatch = HandedBack(end)
    dispatch.state = DispatchState(route="worker", deaths=1, failures=2, dispatches=7)
    running = asyncio.create_task(dispatch.run())
    await asyncio.sleep(0.01)
    assert not running.done()
    assert len(dispatch.given) == 1
    assert dispatch.state.deaths == 1
    assert dispatch.state.failures == 2
    assert dispatch.state.dispatches == 8
    running.cancel()


async def test_what_was_answered_while_it_was_handed_back_is_kept() -> None:
    """
    As is what another try will not change.
    """
    assert await HandedBack(DONE).run() == DONE
    parked = telling(ParkedError.kind, EMPTY, 1)
    decision = await HandedBack(parked).run()
    assert isinstance(decision, FailureDecision)
    assert decision.next is Action.PARK
