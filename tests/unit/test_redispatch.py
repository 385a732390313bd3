"""
What a failed attempt counts for, and whether another one follows.
"""

import pytest

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.batches import (
    MAX_LEASE_CRASHES,
    Batch,
    ItemRange,
    Lease,
    LeaseState,
)
from outlast.contracts.prior_run import DispatchState
from outlast.contracts.quarantine import (
    MAX_ATTRIBUTED_DEATHS,
    QUARANTINE_WAITS_S,
    Death,
)
from outlast.contracts.retries import Policy
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.redispatch import (
    POISON_CRASHES,
    AttemptEnd,
    after_crash,
    after_failure,
    attribute_crash,
    is_over_limit,
    is_poison,
    items_in_flight,
    lease_wait_s,
)

BATCH = Batch(id="b", role="worker", policy=Policy(crashes=2))


def lease(start: int = 1, stop: int = 10, **more: object) -> Lease:
    return Lease(batch=BATCH, span=ItemRange(start=start, stop=stop), **more)


OWN = Death(own=True)
BARE = Death(watched_s=86_400.0)
STORM = Death(other_s=0.5, outside_s=0.5, watched_s=86_400.0)


def died(*in_flight: int, death: Death = OWN) -> FailureDecision:
    saved = Checkpoint(value=list(in_flight))
    return FailureDecision(Action.REDISPATCH_CRASHED, "killed", saved, death=death)


def test_a_first_death_is_counted_and_nothing_is_quarantined() -> None:
    """
    Each in-flight item has one; the whole lease is redispatched.
    """
    left, alone = attribute_crash(lease(), [3, 5])
    assert (left.deaths, left.skip, alone) == ({3: 1, 5: 1}, [], [])


def test_an_item_with_enough_deaths_is_quarantined_with_them() -> None:
    """
    The rest is redispatched without it, and keeps its own deaths.
    """
    left, alone = attribute_crash(lease(deaths={3: 1, 5: 1}, skip=[2]), [3])
    assert (left.deaths, left.skip) == ({5: 1}, [2, 3])
    (suspect,) = alone
    assert suspect.quarantined
    assert (suspect.span, suspect.deaths) == (ItemRange(start=3, stop=4), {3: 2})


def test_all_with_enough_deaths_are_quarantined_each_by_itself() -> None:
    """
    Two in flight with two deaths each: either may have caused them.
    """
    left, alone = attribute_crash(lease(deaths={3: 1, 5: 1}), [3, 5])
    assert left.skip == [3, 5]
    assert [each.span.start for each in alone] == [3, 5]


def alone(deaths: int) -> LeaseState:
    """
    Make a quarantine lease of item 3, after so many *deaths* among others.
    """
    suspect = lease(3, 4, deaths={3: deaths}, quarantined=True)
    return LeaseState(lease=suspect, died_at=0.0)


@pytest.mark.parametrize("deaths", [1, POISON_CRASHES - 1])
def test_a_death_in_quarantine_dead_letters_only_with_those_before(deaths: int) -> None:
    """
    And it gets no second quarantine lease.
    """
    state, suspects = after_crash(alone(deaths), died(3), 1.0)
    assert suspects == []
    assert state.lease.deaths == {3: deaths + 1}
    assert is_poison(state) == (deaths + 1 >= POISON_CRASHES)
    among = LeaseState(lease=lease(3, 4, deaths={3: deaths}), died_at=0.0)
    assert not is_poison(after_crash(among, died(3), 1.0)[0])


def test_kills_in_quarantine_count_by_what_they_weigh() -> None:
    """
    After some in a row while nobody else is killed, with a wait before each of the
    next attempts; in a storm not, however many.
    """
    poison, innocent = alone(2), alone(2)
    for number in range(1, MAX_ATTRIBUTED_DEATHS + 1):
        poison, _ = after_crash(poison, died(3, death=BARE), 10.0 * number)
        assert is_poison(poison) == (number == MAX_ATTRIBUTED_DEATHS)
        assert lease_wait_s(poison, 0.1, 0.0) > 0
    for number in range(1, 10 * MAX_ATTRIBUTED_DEATHS):
        innocent, _ = after_crash(innocent, died(3, death=STORM), 10.0 * number)
        assert not is_poison(innocent)


@pytest.mark.parametrize(
    "decision",
    [
        FailureDecision(
            Action.REDISPATCH_CRASHED, "before it began", never_started=True, death=OWN
        ),
        died(),
    ],
    ids=["before it began", "with nothing in flight"],
)
def test_an_item_that_was_not_in_flight_is_not_dead_lettered(
    decision: FailureDecision,
) -> None:
    """
    However often it died beside others: it has not run in quarantine yet.
    """
    state, _ = after_crash(alone(POISON_CRASHES), decision, 1.0)
    assert not is_poison(state)
    assert lease_wait_s(state, 0.1, 0.0) == 0, "nobody waits for a death before it"
    state, _ = after_crash(state, died(3), 2.0)
    assert is_poison(state)


@pytest.mark.parametrize(
    ("death", "ends"), [(OWN, True), (BARE, True), (STORM, False)], ids=repr
)
def test_deaths_with_nothing_in_flight_end_a_batch_unless_it_storms(
    death: Death, ends: bool
) -> None:
    """
    Nobody can work on a lease whose processes die again and again before an item.
    """
    state = LeaseState(lease=lease(), died_at=0.0)
    for number in range(MAX_LEASE_CRASHES + 1):
        assert not is_over_limit(state)
        state, _ = after_crash(state, died(death=death), 10.0 * number)
    assert is_over_limit(state) == ends


def test_what_cannot_be_read_is_attributed_to_no_item() -> None:
    """
    Nor is a death that reports nothing.
    """
    assert items_in_flight(FailureDecision(Action.REDISPATCH_CRASHED, "killed")) == []
    odd = FailureDecision(
        Action.REDISPATCH_CRASHED, "killed", Checkpoint(value={"n": 1})
    )
    assert items_in_flight(odd) == []


END = AttemptEnd(started_at=5.0, ended_at=10.0, random=lambda: 0.0)
BEFORE = DispatchState(
    route="worker", dispatches=3, deaths=1, failures=2, checkpoint=Checkpoint(seq=4)
)
TIMED_OUT = FailureDecision(Action.REDISPATCH_TIMED_OUT, "timed out")
LOST = FailureDecision(Action.REDISPATCH_CRASHED, "lost", never_started=True)


def crashed(seq: int, death: Death = BARE) -> FailureDecision:
    saved = Checkpoint(seq=seq)
    return FailureDecision(Action.REDISPATCH_CRASHED, "killed", saved, death=death)


@pytest.mark.parametrize(
    ("decision", "changes"),
    [
        (crashed(4), {"deaths": 2, "died_at": 10.0}),
        (crashed(5), {"deaths": 1, "died_at": 10.0, "checkpoint": Checkpoint(seq=5)}),
        (LOST, {"lost": 1}),
        (TIMED_OUT, {"failures": 1}),
        (FailureDecision(Action.REDISPATCH_UNCOUNTED, "drained"), {}),
        (FailureDecision(Action.PARK, "asks"), {}),
    ],
    ids=["death", "progress", "lost", "timeout", "drain", "parked"],
)
def test_each_end_of_a_tasks_attempt_counts_once(
    decision: FailureDecision, changes: dict[str, object]
) -> None:
    """
    Nothing else of the task's state changes, and the decision stays what it was.
    """
    state, after = after_failure(BEFORE, decision, 2, END)
    told = {"previous_failure": decision.cause, "detected_by": decision.detected_by}
    assert state == BEFORE.model_copy(update={**told, **changes})
    assert after == decision


def test_what_ends_a_tasks_route() -> None:
    """
    The policy's last failure, and a death in quarantine that only it can have caused;
    after any other death there it waits.
    """
    last = BEFORE.model_copy(update={"failures": 1, "deaths": 2})
    _, after = after_failure(last, TIMED_OUT, 2, END)
    assert (after.next, after.attempts) == (Action.NEXT_ROUTE, 3)
    _, after = after_failure(last, crashed(4, OWN), 2, END)
    assert after.next is Action.NEXT_ROUTE
    state, after = after_failure(last, crashed(4, STORM), 2, END)
    assert after.next is Action.REDISPATCH_CRASHED
    assert (state.deaths, state.wait_s) == (3, QUARANTINE_WAITS_S[0])
