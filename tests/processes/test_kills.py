"""
A mission finishes while the processes and the server under it are killed.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from outlast.ledger.audit import audit_ledger
from outlast.store.database import Store
from testkit.processes import Home, events, every, mission, wait_for

STEPS = 10


def rehearsals(
    log: Path, count: int, step_s: float = 1.0, steps: int = STEPS
) -> list[dict[str, object]]:
    return [
        {
            "id": f"r{number}",
            "role": "rehearse",
            "input": {
                "steps": steps,
                "step_seconds": step_s,
                "log": str(log),
                "effect": f"effect-{number}",
            },
        }
        for number in range(count)
    ]


def assert_each_once(log: Path, count: int, kills: int) -> None:
    """
    Every effect once, every task finished once, nothing redone but steps in hand.
    """
    effects = Counter(event["key"] for event in events(log, "effect"))
    assert effects == {f"effect-{number}": 1 for number in range(count)}
    ends = Counter(event["task"] for event in events(log, "end"))
    assert set(ends) == {f"r{number}" for number in range(count)}
    ended_at = {event["task"]: event["at"] for event in events(log, "end")}
    late = [
        each for each in events(log, "start") if each["at"] > ended_at[each["task"]]
    ]
    assert late == [], "a finished task ran again"
    steps = Counter((each["task"], each["step"]) for each in events(log, "step"))
    assert len(steps) == count * STEPS
    redone = sum(times - 1 for times in steps.values())
    assert redone <= kills * count, "more than the steps in hand were repeated"


@pytest.mark.timeout(180)
def test_a_mission_survives_the_kill_of_an_agent_process_every_two_seconds(
    home: Home, tmp_path: Path
) -> None:
    """
    SIGKILL of any one agent process every 2 s: the mission finishes, no finished
    task runs again, each effect happens once.
    """
    log = tmp_path / "log.jsonl"
    dice = random.Random(20)
    fleet = home.fleet(processes=3)
    starter = home.begin(
        "run", mission(tmp_path / "m.yaml", rehearsals(log, 6)), "--json"
    )
    wait_for(lambda: events(log, "step"), "a first step")
    killed = []
    with every(2.0, starter) as ticks:
        for _ in ticks:
            killed.append(fleet.kill_one(dice))

    assert starter.returncode == 0, starter.communicate()
    assert len(killed) >= 4, "the fault hardly fired"
    assert_each_once(log, 6, len(killed))
    audit = home.starter("audit", "--json")
    assert audit.code == 0, audit.out
    assert audit.json["finished"] == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("away_s", [1.0, pytest.param(15.0, marks=pytest.mark.long)])
def test_a_mission_survives_the_kill_of_the_server(
    home: Home, tmp_path: Path, away_s: float
) -> None:
    """
    SIGKILL of the server and restart: the mission finishes, no finished task is
    redone, each effect happens once.
    """
    log = tmp_path / "log.jsonl"
    home.fleet(processes=2)
    first = rehearsals(log, 2, 0.05)
    then = [{**each, "needs": ["r0", "r1"]} for each in rehearsals(log, 6, 0.5)[2:]]
    path = mission(tmp_path / "m.yaml", first + then)
    starter = home.begin("run", path, "--json")
    wait_for(lambda: len(events(log, "step")) > 22, "steps of the second wave")

    home.kill_server()
    time.sleep(away_s)  # the fault itself
    home.start_server()

    assert starter.wait(timeout=90) == 0, starter.communicate()
    assert_each_once(log, 6, kills=1)
    assert home.starter("audit", "--json").code == 0


@pytest.mark.parametrize("fencing", [True, False])
def test_a_woken_zombie_writes_nothing(
    home: Home, tmp_path: Path, fencing: bool
) -> None:
    """
    A frozen process whose task went on elsewhere is refused once it wakes; with
    fencing off the same check sees its writes.
    """
    log = tmp_path / "log.jsonl"
    home.extra["OUTLAST_FENCING"] = str(fencing)
    home.extra["OUTLAST_WATCHDOG"] = "false"  # it would kill what is frozen
    # Frozen with an open poll it would be handed the next attempt too, and be frozen
    # for so long that its own SDK cancels the first.
    home.extra["OUTLAST_SLOTS"] = "1"
    fleet, _ = home.fleet(processes=1), home.fleet(processes=1)
    path = mission(tmp_path / "m.yaml", rehearsals(log, 1, 0.3, steps=20), id="frozen")
    starter = home.begin("run", path, "--json")
    first = wait_for(lambda: events(log, "step"), "a first step")[0]

    os.kill(first["pid"], signal.SIGSTOP)
    wait_for(
        lambda: [each for each in events(log, "step") if each["pid"] != first["pid"]],
        "a step of the replacement",
    )
    frozen_at = len(events(log, "step", "effect", "end"))

    def late() -> list[dict[str, object]]:
        # Of the frozen attempt: its process, once awake, may well be given a new one.
        after_waking = events(log, "step", "effect", "end")[frozen_at:]
        return [each for each in after_waking if each["attempt"] == first["attempt"]]

    store = Store(home.path / "store.db")  # the program would ask the frozen server

    def refused() -> int:
        return audit_ledger(store, "frozen").stale_refused

    with home.server_frozen():  # else it would tell the zombie to stop
        os.kill(first["pid"], signal.SIGCONT)
        wait_for(refused if fencing else late, "the zombie's write")
    assert starter.wait(timeout=60) == 0, starter.communicate()
    assert (late() == []) is fencing
    assert (refused() > 0) is fencing
    store.close()
    assert fleet.process.poll() is None
