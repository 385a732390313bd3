"""
Who is charged when a process dies with a lease in hand.
"""

import pytest

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.batches import MAX_LEASE_CRASHES, Batch, ItemRange, Lease
from outlast.contracts.quarantine import MAX_ATTRIBUTED_DEATHS, Death
from outlast.contracts.retries import Policy
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.lease_dispatch import (
    POISON_CRASHES,
    LeaseDispatch,
    attribute_crash,
    items_in_flight,
)

BATCH = Batch(id="b", role="worker", policy=Policy(crashes=2))


def lease(start: int = 1, stop: int = 10, **more: object) -> Lease:
    return Lease(batch=BATCH, span=ItemRange(start=start, stop=stop), **more)


OWN = Death(own=True)
BARE = Death(watched_s=86_400.0)
STORM = Death(other_s=0.5, outside_s=0.5, watched_s=86_400.0)


def died(*in_hand: int, death: Death = OWN) -> FailureDecision:
    saved = Checkpoint(value=list(in_hand))
    return FailureDecision(Action.REDISPATCH_CRASHED, "killed", saved, death=death)


def test_a_first_death_is_noted_and_nobody_goes_alone() -> None:
    """
    Each item in hand has one; the lease is lent again whole.
    """
    left, alone = attribute_crash(lease(), died(3, 5))
    assert (left.deaths, left.skip, alone) == ({3: 1, 5: 1}, [], [])


def test_who_has_enough_deaths_goes_alone_and_takes_them_along() -> None:
    """
    The rest is lent without it, and keeps its own deaths.
    """
    left, alone = attribute_crash(lease(deaths={3: 1, 5: 1}, skip=[2]), died(3))
    assert (left.deaths, left.skip) == ({5: 1}, [2, 3])
    (suspect,) = alone
    assert suspect.quarantined
    assert (suspect.span, suspect.deaths) == (ItemRange(start=3, stop=4), {3: 2})


def test_all_who_have_enough_go_alone_each_by_itself() -> None:
    """
    Two in hand at two deaths: nobody can tell which of them it was.
    """
    left, alone = attribute_crash(lease(deaths={3: 1, 5: 1}), died(3, 5))
    assert left.skip == [3, 5]
    assert [each.span.start for each in alone] == [3, 5]


def alone(deaths: int) -> LeaseDispatch:
    """
    Lend item 3 alone, after so many *deaths* among others.
    """
    return LeaseDispatch(lease(3, 4, deaths={3: deaths}, quarantined=True), died_at=0.0)


@pytest.mark.parametrize("deaths", [1, POISON_CRASHES - 1])
def test_a_death_alone_convicts_the_item_only_with_those_before(deaths: int) -> None:
    """
    And it does not go alone once more.
    """
    loan = alone(deaths)
    assert loan.record_crash(died(3), 1.0) == []
    assert loan.lease.deaths == {3: deaths + 1}
    assert loan.is_poison == (deaths + 1 >= POISON_CRASHES)
    among = LeaseDispatch(lease(3, 4, deaths={3: deaths}), died_at=0.0)
    among.record_crash(died(3), 1.0)
    assert not among.is_poison


def test_kills_alone_convict_by_what_they_weigh() -> None:
    """
    After some in a row while nobody else is killed, with a wait before each of the
    next attempts; in a storm not, however many.
    """
    poison, innocent = alone(2), alone(2)
    for number in range(1, MAX_ATTRIBUTED_DEATHS + 1):
        poison.record_crash(died(3, death=BARE), 10.0 * number)
        assert poison.is_poison == (number == MAX_ATTRIBUTED_DEATHS)
        assert poison.wait_s(0.1, 0.0) > 0
    for number in range(1, 10 * MAX_ATTRIBUTED_DEATHS):
        innocent.record_crash(died(3, death=STORM), 10.0 * number)
        assert not innocent.is_poison


@pytest.mark.parametrize(
    "verdict",
    [
        FailureDecision(
            Action.REDISPATCH_CRASHED, "before it began", never_started=True, death=OWN
        ),
        died(),
    ],
    ids=["before it began", "with nothing in hand"],
)
def test_an_item_that_was_not_in_hand_is_not_convicted(
    verdict: FailureDecision,
) -> None:
    """
    However often it died beside others: it has not been played alone yet.
    """
    loan = alone(POISON_CRASHES)
    loan.record_crash(verdict, 1.0)
    assert not loan.is_poison
    assert loan.wait_s(0.1, 0.0) == 0, "nobody waits for a death before it"
    loan.record_crash(died(3), 2.0)
    assert loan.is_poison


@pytest.mark.parametrize(
    ("death", "ends"), [(OWN, True), (BARE, True), (STORM, False)], ids=repr
)
def test_deaths_with_nothing_in_hand_end_a_batch_unless_it_storms(
    death: Death, ends: bool
) -> None:
    """
    Nobody can work on a lease whose processes die again and again before an item.
    """
    loan = LeaseDispatch(lease(), died_at=0.0)
    for number in range(MAX_LEASE_CRASHES + 1):
        assert not loan.is_over_limit
        loan.record_crash(died(death=death), 10.0 * number)
    assert loan.is_over_limit == ends


def test_what_cannot_be_read_is_charged_to_no_item() -> None:
    """
    Nor is a death that reports nothing.
    """
    assert items_in_flight(FailureDecision(Action.REDISPATCH_CRASHED, "killed")) == []
    odd = FailureDecision(
        Action.REDISPATCH_CRASHED, "killed", Checkpoint(value={"n": 1})
    )
    assert items_in_flight(odd) == []
