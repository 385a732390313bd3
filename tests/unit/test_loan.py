"""
Who is charged when a process dies with a lease in hand.
"""

import pytest

from outlast.contracts.models import Checkpoint
from outlast.contracts.policies import Policy
from outlast.contracts.pool import Batch, Lease, Span
from workflows.loan import CONVICTED, charge, convicted, held
from workflows.verdict import Next, Verdict

BATCH = Batch(id="b", role="worker", policy=Policy(crashes=2))


def lease(start: int = 1, stop: int = 10, **more: object) -> Lease:
    return Lease(batch=BATCH, span=Span(start=start, stop=stop), **more)


def died(*in_hand: int) -> Verdict:
    saved = Checkpoint(value=list(in_hand))
    return Verdict(Next.AGAIN_CRASHED, "killed", saved)


def test_a_first_death_is_noted_and_nobody_goes_alone() -> None:
    """
    Each item in hand has one; the lease is lent again whole.
    """
    left, alone = charge(lease(), died(3, 5))
    assert (left.deaths, left.skip, alone) == ({3: 1, 5: 1}, [], [])


def test_who_has_enough_deaths_goes_alone_and_takes_them_along() -> None:
    """
    The rest is lent without it, and keeps its own deaths.
    """
    left, alone = charge(lease(deaths={3: 1, 5: 1}, skip=[2]), died(3))
    assert (left.deaths, left.skip) == ({5: 1}, [2, 3])
    (suspect,) = alone
    assert suspect.alone
    assert (suspect.span, suspect.deaths) == (Span(start=3, stop=4), {3: 2})


def test_all_who_have_enough_go_alone_each_by_itself() -> None:
    """
    Two in hand at two deaths: nobody can tell which of them it was.
    """
    left, alone = charge(lease(deaths={3: 1, 5: 1}), died(3, 5))
    assert left.skip == [3, 5]
    assert [each.span.start for each in alone] == [3, 5]


@pytest.mark.parametrize("deaths", [1, CONVICTED - 1])
def test_a_death_alone_convicts_the_item_only_with_those_before(deaths: int) -> None:
    """
    And it does not go alone once more.
    """
    left, alone = charge(lease(3, 4, deaths={3: deaths}, alone=True), died(3))
    assert alone == []
    assert left.deaths == {3: deaths + 1}
    assert convicted(left, died(3)) == (deaths + 1 >= CONVICTED)
    assert not convicted(left.model_copy(update={"alone": False}), died(3))


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(Next.AGAIN_CRASHED, "before it began", unbegun=True),
        died(),
    ],
    ids=["before it began", "with nothing in hand"],
)
def test_an_item_that_was_not_in_hand_is_not_convicted(verdict: Verdict) -> None:
    """
    However often it died beside others: it has not been played alone yet.
    """
    suspect = lease(3, 4, deaths={3: CONVICTED}, alone=True)
    left, _ = charge(suspect, verdict)
    assert not convicted(left, verdict)
    left, _ = charge(left, died(3))
    assert convicted(left, died(3))


def test_what_cannot_be_read_is_charged_to_no_item() -> None:
    """
    Nor is a death that reports nothing.
    """
    assert held(Verdict(Next.AGAIN_CRASHED, "killed")) == []
    odd = Verdict(Next.AGAIN_CRASHED, "killed", Checkpoint(value={"n": 1}))
    assert held(odd) == []
