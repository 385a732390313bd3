"""
The budget of deaths: when trying again is no use, by a clock that the test turns.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import Clock

from outlast.fleet.restart_intensity import (
    MAX_RESTARTS,
    RESPAWN_BACKOFF_S,
    RESTART_PERIOD_S,
    RestartIntensity,
)


def died(times: int, every_s: float) -> RestartIntensity:
    """
    Charge that many deaths, one *every_s*.
    """
    clock, budget = Clock(), RestartIntensity()
    for _ in range(times):
        clock.turn(every_s)
        budget.record(clock.now)
    return budget


def test_nothing_is_spent_before_the_first_death() -> None:
    """
    A process that has not died is tried.
    """
    assert not RestartIntensity().exceeded


@pytest.mark.parametrize("every_s", [0.0, 1.0, RESTART_PERIOD_S / (MAX_RESTARTS - 1)])
def test_five_deaths_within_a_minute_spend_it(every_s: float) -> None:
    """
    The fifth is the last, all at once or spread over the whole minute.
    """
    assert not died(MAX_RESTARTS - 1, every_s).exceeded
    assert died(MAX_RESTARTS, every_s).exceeded
    assert (MAX_RESTARTS, RESTART_PERIOD_S) == (5, 60.0)


def test_deaths_that_are_far_apart_never_spend_it() -> None:
    """
    However many there are: what is older than a minute is forgotten.
    """
    assert not died(100, RESTART_PERIOD_S / (MAX_RESTARTS - 1) + 0.1).exceeded


def test_a_budget_recovers_with_time() -> None:
    """
    A bad minute an hour ago does not count, nor does it make the next pause longer.
    """
    clock, budget = Clock(), RestartIntensity()
    for _ in range(MAX_RESTARTS):
        budget.record(clock.now)
    clock.turn(RESTART_PERIOD_S + 0.1)
    budget.record(clock.now)
    assert not budget.exceeded
    assert budget.backoff_s == RESPAWN_BACKOFF_S


def test_pauses_grow_from_death_to_death() -> None:
    """
    0.4 s after the first, then twice as long each time: a machine that is short of
    something gets time, and a whole try takes seconds, not minutes.
    """
    pauses = [died(count, 1.0).backoff_s for count in range(1, MAX_RESTARTS)]
    assert pauses[0] == pytest.approx(0.4)
    assert all(
        later == pytest.approx(2 * earlier) for earlier, later in pairwise(pauses)
    )
    assert sum(pauses) < 10.0


@given(st.lists(st.floats(0, 90), min_size=1, max_size=40), st.integers(1, 8))
def test_it_is_spent_by_the_deaths_of_the_last_minute(
    gaps: list[float], limit: int
) -> None:
    """
    Whatever the course, it is spent when as many deaths as the limit lie within the
    window that ends with the last one.
    """
    budget = RestartIntensity(max_restarts=limit)
    deaths: list[float] = []
    for gap in gaps:
        deaths.append((deaths[-1] if deaths else 0.0) + gap)
        budget.record(deaths[-1])
        recent = [each for each in deaths if deaths[-1] - each <= RESTART_PERIOD_S]
        assert budget.exceeded is (len(recent) >= limit)
