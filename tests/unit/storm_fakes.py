"""
Storms of kills over a fleet, drawn from a seed, and the tasks in their way.
"""

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from outlast.contracts.quarantine import Death, Quarantine

CRASHES = 2  # deaths before a task goes into quarantine
RECOVERY_S = 0.03
MOST_KILLS = 150
WATCHED_S = 1_000.0  # before the storm


@dataclass(frozen=True)
class Storm:
    """
    When which of a fleet's processes are killed: the one with workflows is the first,
    the one for quarantine the last.
    """

    kind: str
    slots: int
    kills: list[tuple[float, set[int]]]
    suspects: bool = False  # these deaths are those of other suspects in quarantine


@dataclass
class Fate:
    """
    What became of a task.
    """

    convicted: bool
    deaths: int
    at: float
    after_storm: int = 0  # of the deaths


def storm_of(dice: random.Random) -> Storm:
    """
    Draw a storm: of 0.2 to 20 s between kills, for up to 150 of them, on fleets of one
    to six agent processes; it may have begun before the task has.
    """
    slots = dice.randint(3, 8)
    aimed = list(range(dice.choice([0, 1]), slots))
    kind = dice.choice(["steady", "random", "bursts", "volleys", "some"])
    mean_s = 10 ** dice.uniform(-0.7, 1.3)
    at = dice.uniform(-20 * mean_s, 10 * mean_s)
    kills: list[tuple[float, set[int]]] = []
    burst = 0
    for _ in range(dice.randint(3, MOST_KILLS)):
        match kind:
            case "steady" | "volleys" | "some":
                at += mean_s
            case "random":
                at += dice.expovariate(1 / mean_s)
            case "bursts":
                burst = burst or dice.randint(2, 9)
                burst -= 1
                at += 0.1 * mean_s if burst else 5 * mean_s
        victims = {dice.choice(aimed)}
        if kind == "volleys":
            victims = set(aimed)
        elif kind == "some":
            victims = {each for each in aimed if dice.random() < 0.3}
        if victims:
            kills.append((at, victims))
    return Storm(kind, slots, kills)


CALM = Storm("calm", 4, [])


def play(
    storm: Storm,
    dice: random.Random,
    quarantine: Quarantine,
    innocent_s: float | None = None,
    kills_itself_s: Callable[[], float] = lambda: float("inf"),
    limit: int = 1_000,
) -> Fate:
    """
    Play one task in *storm* until it is done or convicted: an innocent one that needs
    *innocent_s* without a saved step, or one that *kills_itself_s* after it has begun.
    """
    at = died_at = 0.0
    fate = Fate(False, 0, 0.0)
    last_kill = storm.kills[-1][0] if storm.kills else 0.0
    own: set[tuple[float, int]] = set()
    while fate.deaths < limit:
        alone = fate.deaths >= CRASHES
        slot = storm.slots - 1 if alone else dice.randrange(1, storm.slots - 1)
        begun = at + RECOVERY_S
        ends = begun + min(innocent_s or float("inf"), kills_itself_s())
        hit = _hit(storm, slot, begun, ends)
        if hit is None and innocent_s is not None:
            fate.at = ends
            return fate
        at = ends if hit is None else hit
        if hit is not None:
            own.add((hit, slot))
        fate.deaths, fate.at = fate.deaths + 1, at
        fate.after_storm += at > last_kill
        since_s, died_at = at - died_at, at
        if not alone:
            continue
        death = _death(storm, at, own)
        quarantine = quarantine.with_death(death, since_s)
        if quarantine.is_poison:
            fate.convicted = True
            return fate
        at += quarantine.wait_s(at - begun, dice.random())
    return fate


def _hit(storm: Storm, slot: int, begun: float, ends: float) -> float | None:
    at = bisect_left(storm.kills, begun, key=lambda kill: kill[0])
    while at < len(storm.kills) and storm.kills[at][0] < ends:
        if slot in storm.kills[at][1]:
            return storm.kills[at][0]
        at += 1
    return None


def _death(storm: Storm, died_at: float, own: set[tuple[float, int]]) -> Death:
    """
    Tell of the latest kill of others. One of the same moment comes too late for the
    report of this death.
    """
    at = bisect_left(storm.kills, died_at, key=lambda kill: kill[0]) - 1
    while at >= 0 and all((storm.kills[at][0], s) in own for s in storm.kills[at][1]):
        at -= 1
    other_s = died_at - storm.kills[at][0] if at >= 0 else None
    return Death(
        other_s=other_s,
        outside_s=None if storm.suspects else other_s,
        watched_s=WATCHED_S + died_at,
    )
