"""
Roles that lose their workers, on real fleets: re-routed, waited for, used again.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mission_driver import Course

from outlast.contracts.timing import STARTUP_GRACE_S
from testkit.processes import FleetProcess, Home, events, mission, wait_for

AGENTS = """
import asyncio
from pathlib import Path

from outlast import Policy, agent

FAST = Policy(failures=2)

@agent("scholar", fallbacks=("reader",), policy=FAST)
async def scholar(given: dict, ctx) -> str:
    return "by the scholar"

@agent("reader", policy=FAST)
async def reader(given: dict, ctx) -> str:
    if "begun" in given:
        Path(given["begun"]).touch()
        await asyncio.sleep(0.5)
    return "by the reader"
"""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def library(home: Home, tmp_path: Path) -> Home:
    """
    A home whose crew has a scholar, who falls back to a reader.
    """
    module = tmp_path / "library_agents.py"
    module.write_text(AGENTS)
    home.extra["OUTLAST_AGENTS"] = str(module)
    return home


def ask(home: Home, folder: Path, name: str) -> dict[str, Any]:
    """
    Run a mission of one task for the scholar; returns its report.
    """
    tasks = [{"id": "t", "role": "scholar"}]
    path = mission(folder / f"{name}.yaml", tasks, id=name)
    said = home.starter("run", path, "--json")
    assert said.code == 0, said.err
    found: dict[str, Any] = said.json
    return found


def lose(fleet: FleetProcess) -> None:
    """
    SIGKILL every process of *fleet*, its parent first: the loss of a host.
    """
    pids = {each["pid"] for each in fleet.health()["processes"]}
    fleet.process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    fleet.process.wait()


def test_a_role_without_workers_is_rerouted_until_they_are_back(
    library: Home, tmp_path: Path
) -> None:
    """
    Within 2 s where its workers have said farewell, within 5 s of the loss of their
    host, with the reason; and the next task after their return uses them.
    """
    library.fleet(1, "--roles", "reader")
    time.sleep(STARTUP_GRACE_S)
    report = ask(library, tmp_path, "nobody")
    assert report["degraded"] == ["t: scholar: no live worker plays it"]
    assert report["tasks"][0]["result"] == "by the reader"
    assert report["seconds"] < 2.0, report

    scholars = library.fleet(1, "--roles", "scholar")
    assert ask(library, tmp_path, "back")["tasks"][0]["result"] == "by the scholar"

    begun = tmp_path / "begun"
    tasks = [
        {"id": "a", "role": "reader", "input": {"begun": str(begun)}},
        {"id": "t", "role": "scholar", "needs": ["a"]},
    ]
    path = mission(tmp_path / "lost.yaml", tasks, id="lost")
    starter = library.begin("run", path, "--json")
    wait_for(begun.exists, "the mission under way")
    lose(scholars)
    lost_at = time.time()
    assert starter.wait(timeout=60) == 0
    told = library.starter("explain", "lost", "--json").json["attempts"]
    (rerouted,) = [each for each in told if each["task"] == "t"]
    assert rerouted["route"] == "reader"
    after_s = rerouted["started_at"] - lost_at
    print(f"re-routed {after_s:.2f} s after the loss of a host")
    assert after_s < 5.0


def test_a_long_queue_on_live_workers_keeps_its_place(
    home: Home, tmp_path: Path
) -> None:
    """
    Waiting behind others is not being lost: nothing is re-routed, however long it is.
    """
    home.extra["OUTLAST_SLOTS"] = "1"
    home.fleet(1)
    course = Course(home, "queue", tmp_path)
    course.begin({f"t{at}": {"steps": 3, "step_seconds": 0.4} for at in range(7)})
    try:
        assert course.ends() == 0
    finally:
        course.leave()
    report = course.report
    assert (report["status"], report["degraded"]) == ("completed", [])
    waited = [each["at"] for each in events(course.log, "start")]
    assert max(waited) - min(waited) > STARTUP_GRACE_S, "nothing has had to wait"


def test_every_worker_may_be_gone_for_a_while(home: Home, tmp_path: Path) -> None:
    """
    Nothing is lost, skipped or re-routed, and all goes on where it was. (Eight seconds
    here; a minute was tried by hand.)
    """
    lost = home.fleet(2)
    course = Course(home, "away", tmp_path)
    course.begin({name: {"steps": 20, "step_seconds": 0.1} for name in ("a", "b")})
    course.past(5, "a")
    lose(lost)
    time.sleep(float(os.environ.get("OUTLAST_TEST_AWAY_S", "8")))
    home.fleet(2)
    try:
        assert wait_for(lambda: course.starter.poll() is not None, "the end")
    finally:
        course.leave()
    report = course.report
    assert (report["status"], report["degraded"]) == ("completed", [])
    for name in ("a", "b"):
        steps = [each["step"] for each in course.of(name, "step")]
        assert sorted(steps) == list(range(1, 21))
