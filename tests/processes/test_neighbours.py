"""
Beside a guest of each kind three innocents finish, and the fleet is whole afterwards.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.dev.ports import free_port
from outlast.dev.server import DevServer
from testkit.processes import PROJECT_FOLDER, FleetProcess, Home, wait_for

INNOCENTS = ["i1", "i2", "i3"]
STEPS = 30
LIVING = {
    "raises-what-cannot-be-printed": "dead",
    "exits-in-a-task": "dead",
    "interrupts-in-a-forgotten-task": "done",
    "exits-in-a-thread": "dead",
    "stops-the-loop": "done",
    "swallows-its-cancellation": "dead",
    "hangs-in-a-thread": "dead",
    "leaves-a-process": "dead",
    "takes-sigterm": "done",
    "eats-the-stack": "dead",
    "gives-up-in-a-group": "dead",
    "blocks-for-a-while": "done",
}
DEADLY = ["exits-hard", "segfaults"]
# Their process is replaced when its other attempts are done; the next guest waits.
LEAKING = ["swallows-its-cancellation", "hangs-in-a-thread"]
# Three deaths of one process, each with a fork and a takeover on a busy machine.
LONGEST_GAP_S = 2.0


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """
    Every guest beside its innocents, one after the other, on one fleet.
    """
    folder = tmp_path_factory.mktemp("guests")
    home = Home(folder / "home", DevServer(folder / "home", free_port(), free_port()))
    home.path.mkdir(mode=0o700)
    guests = str(PROJECT_FOLDER / "tests" / "cases" / "guests.py")
    home.extra = {"OUTLAST_AGENTS": guests, "PYTHONPATH": str(PROJECT_FOLDER)}
    home.start_server()
    try:
        fleet = home.fleet()
        calm = [kind for kind in (*LIVING, *DEADLY) if kind not in LEAKING]
        ended: dict[str, Any] = {}
        for kinds in (calm, *([kind] for kind in LEAKING)):
            wait_for(lambda: whole(fleet), "a fleet without leaked attempts")
            ended |= play(home, folder, kinds)
        yield {"ended": ended, "fleet": fleet, "folder": folder}
    finally:
        home.close()


def play(home: Home, folder: Path, kinds: list[str]) -> dict[str, Any]:
    """
    Run a mission of each kind, one after the other; returns how they ended.
    """
    path = folder / "missions.json"
    path.write_text(json.dumps({kind: mission(kind, folder) for kind in kinds}))
    said = home.run("tests/processes/play_cases.py", str(path), "rough", limit_s=110)
    assert said.code == 0, said.err[-3000:]
    return {each["mission"]: each for each in map(json.loads, said.out.splitlines())}


def whole(fleet: FleetProcess) -> bool:
    health = fleet.health()
    idle = all(
        each["state"] == "polling" and not each["in_flight"] and not each["leaked"]
        for each in health["processes"]
    )
    return bool(health["ready"] and idle)


def mission(kind: str, folder: Path) -> dict[str, Any]:
    guest = {"id": "guest", "role": kind, "required": False}
    guest["input"] = {"log": str(folder / f"{kind}.log")}
    innocents = [{"id": each, "role": "innocent"} for each in INNOCENTS]
    return {"id": kind, "tasks": [guest, *innocents]}


@pytest.mark.parametrize("kind", LIVING)
def test_innocents_finish_in_their_first_attempt(
    played: dict[str, Any], kind: str
) -> None:
    tasks = played["ended"][kind]["tasks"]
    assert tasks["guest"]["status"] == LIVING[kind], tasks["guest"]
    for each in INNOCENTS:
        assert (tasks[each]["status"], tasks[each]["attempts"]) == ("done", 1)


@pytest.mark.parametrize("kind", DEADLY)
def test_innocents_go_on_where_the_process_had_to_die(
    played: dict[str, Any], kind: str
) -> None:
    ended = played["ended"][kind]
    assert ended["tasks"]["guest"]["status"] == "dead"
    for each in INNOCENTS:
        assert ended["tasks"][each]["status"] == "done"
        result = ended["results"][each]
        assert result["steps"] == STEPS
        assert result["longest_gap_s"] < LONGEST_GAP_S


def test_the_fleet_is_whole_afterwards(played: dict[str, Any]) -> None:
    """
    No leaked attempt, process, file or slot is left in it.
    """
    fleet: FleetProcess = played["fleet"]
    wait_for(lambda: whole(fleet), "a fleet without leaked attempts", limit_s=45)
    left = [Path(f"/proc/{pid}").exists() for pid in left_running(played["folder"])]
    assert left == [False], "a failed attempt's process runs on in a recycled worker"
    counts = {len(os.listdir(f"/proc/{pid}/fd")) for pid in fleet.pids("agents")}
    assert max(counts) - min(counts) <= 3, counts


def left_running(folder: Path) -> list[int]:
    return [int((folder / "leaves-a-process.log").read_text())]
