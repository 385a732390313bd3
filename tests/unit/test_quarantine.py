"""
A storm of kills convicts nobody, and who kills itself is convicted soon.
"""

import random
from collections import Counter

import pytest
from storm_fakes import CALM, CRASHES, Storm, play, storm_of

from outlast.contracts.quarantine import (
    MAX_ATTRIBUTED_DEATHS,
    MAX_LONE_DEATHS,
    MAX_QUARANTINE_WAIT_S,
    MAX_UNSEEN_DEATHS,
    QUARANTINE_WAITS_S,
    SAME_STORM_S,
    UNSEEN_DEATH,
    WAIT_JITTER,
    Death,
    Quarantine,
)

STORMS = 10_000
CALM_DEATHS = 5  # of a task that kills itself while nobody else is killed


class Old(Quarantine):
    """
    The rule before: the first death in quarantine convicts.
    """

    @property
    def is_poison(self) -> bool:
        return self.deaths > 0


class Blind(Quarantine):
    """
    Without the weather: any three deaths in quarantine convict.
    """

    def with_death(self, death: Death, since_s: float) -> Quarantine:
        counted = {"deaths": self.deaths + 1, "attributed": self.attributed + 1}
        return self.model_copy(update=counted)


class Hasty(Quarantine):
    """
    Without the waits.
    """

    def wait_s(self, ran_s: float, draw: float) -> float:
        return 0.0


def length_s(dice: random.Random) -> float:
    """
    Draw how long a task is at one step: 0.05 to 60 s.
    """
    return float(10 ** dice.uniform(-1.3, 1.8))


def convicted(rule: Quarantine, storms: int) -> Counter[str]:
    """
    Count the innocents that *rule* convicts, by kind of storm.
    """
    found: Counter[str] = Counter()
    for seed in range(storms):
        dice = random.Random(seed)
        storm = storm_of(dice)
        fate = play(storm, dice, rule, innocent_s=length_s(dice))
        found[storm.kind] += fate.convicted
    return +found


def test_no_storm_convicts_an_innocent() -> None:
    """
    None in 10,000 storms of five kinds.
    """
    assert convicted(Quarantine(), STORMS) == {}


@pytest.mark.parametrize(
    ("rule", "at_least"), [(Old(), 100), (Blind(), 50), (Hasty(), 1)], ids=repr
)
def test_each_part_of_the_rule_is_needed(rule: Quarantine, at_least: int) -> None:
    """
    Negative controls: without it the same storms convict innocents.
    """
    assert convicted(rule, STORMS // 4).total() >= at_least


def test_who_kills_itself_in_calm_weather_is_convicted_soon() -> None:
    """
    Within five deaths, however long it lives each time.
    """
    for seed in range(500):
        dice = random.Random(seed)
        lives_s = length_s(dice)
        fate = play(CALM, dice, Quarantine(), kills_itself_s=lambda: lives_s)  # noqa: B023
        assert fate.convicted
        assert fate.deaths == CALM_DEATHS


def test_who_kills_itself_at_once_waits_for_seconds_only() -> None:
    """
    The waits before the two attempts that convict it.
    """
    fate = play(CALM, random.Random(1), Quarantine(), kills_itself_s=lambda: 0.05)
    waits_s = sum(QUARANTINE_WAITS_S[1:MAX_ATTRIBUTED_DEATHS])
    assert waits_s <= fate.at <= waits_s * (1 + WAIT_JITTER) + 1


def test_who_kills_itself_in_a_storm_is_convicted_once_it_is_over() -> None:
    """
    A storm hides a poison task for no longer than it lasts, and two short attempts.
    """
    for seed in range(500):
        dice = random.Random(seed)
        storm, lives_s = storm_of(dice), length_s(dice)
        fate = play(storm, dice, Quarantine(), kills_itself_s=lambda: lives_s)  # noqa: B023
        assert fate.convicted
        assert fate.after_storm <= CRASHES + MAX_ATTRIBUTED_DEATHS + 2


@pytest.mark.parametrize("every_s", [2.0, 5.0, 10.0])
def test_who_kills_itself_beside_others_is_convicted_by_its_many_deaths(
    every_s: float,
) -> None:
    """
    Suspects that die in quarantine all the time hide each other for a while only.
    """
    others: list[tuple[float, set[int]]] = [(every_s * n, {1}) for n in range(4_000)]
    storm = Storm("suspects", 4, others, suspects=True)
    fate = play(storm, random.Random(3), Quarantine(), kills_itself_s=lambda: 0.05)
    assert fate.convicted
    assert fate.deaths == CRASHES + MAX_LONE_DEATHS


def test_a_storm_in_quarantine_only_convicts_nobody_for_a_minute() -> None:
    """
    Suspects protect each other, since nothing tells them from poison tasks at once.
    """
    kills: list[tuple[float, set[int]]] = [(0.5 * n, {1, 2, 3}) for n in range(4_000)]
    storm = Storm("in quarantine", 4, kills, suspects=True)
    fates = [
        play(storm, random.Random(n), Quarantine(), innocent_s=5.0) for n in range(50)
    ]
    assert all(each.convicted for each in fates)
    assert min(each.at for each in fates) > 60.0


def test_an_end_that_explains_itself_convicts_at_once() -> None:
    """
    Whatever the weather is.
    """
    storm = Death(own=True, other_s=0.1, outside_s=0.1, watched_s=60.0)
    first = Quarantine().with_death(storm, 1.0)
    assert first.is_poison
    assert first.describe == ""


SINCE_S = 10.0


def deaths(*others_s: float | None, suspects: bool = False) -> Quarantine:
    """
    Add deaths, each so long after the last kill of another process.
    """
    found = Quarantine()
    for age_s in others_s:
        outside_s = None if suspects else age_s
        death = Death(other_s=age_s, outside_s=outside_s, watched_s=100.0)
        found = found.with_death(death, SINCE_S)
    return found


def test_three_in_a_row_without_any_other_kill_convict() -> None:
    """
    One with another's kill begins the count anew; an older kill is no weather.
    """
    old = SINCE_S + SAME_STORM_S + 0.1
    assert not deaths(None, old).is_poison
    assert deaths(None, old, None).is_poison
    assert not deaths(None, None, 9.0, None, None).is_poison
    assert deaths(None, None, 9.0, None, None, None).is_poison


def test_kills_right_before_the_last_death_are_the_same_storm() -> None:
    """
    A volley kills one after the other, and is heard of late.
    """
    assert not deaths(*[SINCE_S + SAME_STORM_S - 0.1] * 3 * MAX_LONE_DEATHS).is_poison


def test_suspects_that_die_convict_each_other_by_many_deaths_only() -> None:
    """
    In a row, too: a storm that hits others as well is one.
    """
    assert not deaths(*[0.5] * (MAX_LONE_DEATHS - 1), suspects=True).is_poison
    assert deaths(*[0.5] * MAX_LONE_DEATHS, suspects=True).is_poison
    assert not deaths(*[0.5] * 3 * MAX_LONE_DEATHS).is_poison


def test_what_nobody_has_seen_convicts_only_by_many() -> None:
    """
    A lost heartbeat tells nothing of the process, a new fleet nothing of the weather.
    """
    lost = young = Quarantine()
    for number in range(1, MAX_UNSEEN_DEATHS + 1):
        lost = lost.with_death(UNSEEN_DEATH, SINCE_S)
        young = young.with_death(Death(watched_s=5.0), SINCE_S)
        assert lost.is_poison == young.is_poison == (number == MAX_UNSEEN_DEATHS)


def test_the_waits_grow_and_are_bounded() -> None:
    """
    None before the first attempt alone; short after a storm's kill, then growing, and
    longer than the last attempt where the next death may convict.
    """
    assert Quarantine().wait_s(5.0, 0.0) == 0
    stormy = [Quarantine(deaths=n).wait_s(60.0, 0.0) for n in (1, 5, 50)]
    assert stormy == [QUARANTINE_WAITS_S[0]] * 3
    lone = [Quarantine(deaths=n, lone=n).wait_s(60.0, 0.0) for n in range(1, 5)]
    assert lone == [*QUARANTINE_WAITS_S[1:], QUARANTINE_WAITS_S[-1]]
    clear = [
        Quarantine(deaths=n, lone=n, attributed=n).wait_s(5.0, 0.0) for n in (1, 2)
    ]
    assert clear == [20.0, 80.0]
    most = Quarantine(deaths=2, attributed=2).wait_s(3_600.0, 1.0)
    assert most == MAX_QUARANTINE_WAIT_S * (1 + WAIT_JITTER)


def test_the_cause_says_what_has_convicted_it() -> None:
    """
    In words that a person can judge.
    """
    assert "3 alone while no other process" in deaths(None, None, None).describe
    many = deaths(*[0.5] * MAX_LONE_DEATHS, suspects=True)
    assert f"{MAX_LONE_DEATHS} alone while only suspects were killed" in many.describe
    unseen = Quarantine(deaths=MAX_UNSEEN_DEATHS, unseen=MAX_UNSEEN_DEATHS)
    assert f"{MAX_UNSEEN_DEATHS} of them alone and unseen" in unseen.describe
    assert deaths(None, None).describe == ""
