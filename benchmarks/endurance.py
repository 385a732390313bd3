"""
What a fleet endures: the loss of its parent, killers among innocents, a storm of kills.

    python -m benchmarks.endurance [--kills 1000] [--parents 10]

Every fault is a real SIGKILL of a real process. Each bound is printed as ok or MISSED;
exit code 1 says that one was missed. For Linux: what is left is looked for in /proc.
"""

import argparse
import asyncio
import statistics
import sys
import time
from typing import Any

from benchmarks.endurance_setup import (
    EnduranceFindings,
    EnduranceSetup,
    ground,
    looked,
    orphans,
)
from benchmarks.endurance_storm import bear_storm
from outlast.contracts.reports import TaskStatus
from testkit.processes import FleetProcess, Home, events

ENDURANCE_SETTLE_S = (0.1, 0.6)  # a fault hits any moment of a step
BIRTH_S = (0.0, 0.4)  # from the death of a worker until the next one polls

# Long enough to be under way at the kill and not over before the next fleet polls.
PARENT_TASKS, PARENT_STEPS, PARENT_STEP_S = 6, 60, 0.05
ORPHANS_GONE_S = 5.0

INNOCENTS, KILLER_TRIALS = 12, 3
FATAL_STEPS = (1, 3)  # of the two killers
KILLED = "exit report: killed by SIGKILL"


async def lose_parents(trials: int, findings: EnduranceFindings) -> None:
    """
    SIGKILL the parent alone, again and again.
    """
    print(f"\nSIGKILL of the parent alone, {trials} trials", flush=True)
    async with ground(findings) as on:
        await on.fleet(2)
        seconds = [await _lose_parent(on, trial) for trial in range(trials)]
        on.judge_completion()
        await on.judge_books()
        on.judge_overlaps()
        median, worst = statistics.median(seconds), max(seconds)
        told = f"its processes gone after {median:.2f} s, at worst {worst:.2f} s"
        findings.bound(worst <= ORPHANS_GONE_S, f"{told}; bound {ORPHANS_GONE_S:g} s")
        on.tell_notices()


async def _lose_parent(on: EnduranceSetup, trial: int) -> float:
    """
    Kill the fleet's parent while a mission is under way; returns the seconds until
    nothing of that fleet is left.

    In turn the next fleet starts right after, as systemd would see to; is there
    before; or starts right after, with the birth of a worker cut short by the kill.
    """
    how = ("none other alive", "another alive", "in a birth")[trial % 3]
    (lost,) = on.home.fleets
    if how == "another alive":
        await on.fleet(2)
    script = {"steps": PARENT_STEPS, "step_seconds": PARENT_STEP_S}
    course = await on.begin(
        f"parent{trial}", {f"t{n}": script for n in range(PARENT_TASKS)}
    )
    await looked(
        lambda: len(events(course.log, "start")) >= PARENT_TASKS, "all to start"
    )
    await asyncio.sleep(on.dice.uniform(*ENDURANCE_SETTLE_S))
    if how == "in a birth":
        lost.kill_one(on.dice)
        await asyncio.sleep(on.dice.uniform(*BIRTH_S))
    lost.process.kill()
    leaving = asyncio.create_task(_until_gone(on.home))
    on.home.fleets.remove(lost)
    if not on.home.fleets:
        await on.fleet(2)
    gone_after_s = await leaving
    lost.process.wait()
    await course.end()
    on.findings.note(f"{how}: gone after {gone_after_s:.2f} s, {course.status}")
    return gone_after_s


async def _until_gone(home: Home) -> float:
    began = time.monotonic()
    await looked(lambda: not any(orphans(home)), "the orphans' end")
    return time.monotonic() - began


async def bear_killers(findings: EnduranceFindings) -> None:
    """
    Two tasks that kill their process at every attempt, among innocents.
    """
    told = f"2 killers among {INNOCENTS} innocents on 3 processes"
    print(f"\n{told}, {KILLER_TRIALS} trials", flush=True)
    async with ground(findings) as on:
        fleet = await on.fleet(3)
        for trial in range(KILLER_TRIALS):
            await _bear_killers(on, fleet, trial)
        on.tell_notices()


async def _bear_killers(on: EnduranceSetup, fleet: FleetProcess, trial: int) -> None:
    before = fleet.health()["restarts"]
    innocents = {f"t{n}": {"step_seconds": 0.05, "steps": 20} for n in range(INNOCENTS)}
    killers = {f"killer{step}": _killer(step) for step in FATAL_STEPS}
    course = await on.begin(f"killers{trial}", innocents | killers)
    await course.end()
    await looked(lambda: fleet.health()["ready"], "the whole fleet")
    deaths = fleet.health()["restarts"] - before
    done = {each.id for each in course.outcomes(TaskStatus.DONE)}
    told = f"{len(done)} innocents done, {deaths} process deaths"
    on.findings.bound(done == innocents.keys(), told, [f"done: {sorted(done)}"])
    dead = {each.id: str(each.reasons) for each in course.outcomes(TaskStatus.DEAD)}
    true = dead.keys() == killers.keys() and all(KILLED in why for why in dead.values())
    told = f"{len(dead)} dead letters, the killers with their true cause"
    on.findings.bound(true, told, [f"{who}: {why}" for who, why in dead.items()])


def _killer(step: int) -> dict[str, Any]:
    misdeed = {"step": step, "how": "crash"}
    return {"step_seconds": 0.05, "steps": 5, "misbehave": misdeed}


async def endure(parents: int, kills: int) -> bool:
    findings = EnduranceFindings()
    if parents:
        await lose_parents(parents, findings)
    await bear_killers(findings)
    if kills:
        await bear_storm(kills, findings)
    return findings.held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--parents", type=int, default=10)
    args = parser.parse_args()
    return int(not asyncio.run(endure(args.parents, args.kills)))


if __name__ == "__main__":
    sys.exit(main())
