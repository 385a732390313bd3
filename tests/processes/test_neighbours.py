"""
Beside a guest of each kind three innocents finish, and the fleet is whole afterwards.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.real import ROOT, Fleet, Home, wait_for
from outlast.runtime.embedded import Server, free_port

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
# Three deaths of one process, each with a fork and a takeover on a busy machine.
LONGEST_GAP_S = 2.0


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """
    Every guest beside its innocents, one after the other, on one fleet.
    """
    folder = tmp_path_factory.mktemp("guests")
    home = Home(folder / "home", Server(folder / "home", free_port(), free_port()))
    home.path.mkdir()
    guests = str(ROOT / "tests" / "cases" / "guests.py")
    home.extra = {"OUTLAST_AGENTS": guests, "PYTHONPATH": str(ROOT)}
    home.start_server()
    try:
        fleet = home.fleet()
        path = folder / "missions.json"
        path.write_text(json.dumps({kind: mission(kind, folder) for kind in kinds()}))
        said = home.run(
            "tests/processes/play_cases.py", str(path), "rough", limit_s=110
        )
        assert said.code == 0, said.err[-3000:]
        ended = {
            each["mission"]: each for each in map(json.loads, said.out.splitlines())
        }
        yield {"ended": ended, "fleet": fleet, "folder": folder}
    finally:
        home.close()


def kinds() -> list[str]:
    return [*LIVING, *DEADLY]


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
    fleet: Fleet = played["fleet"]

    def whole() -> bool:
        health = fleet.health()
        idle = all(
            each["state"] == "polling" and not each["in_hand"] and not each["leaked"]
            for each in health["processes"]
        )
        return bool(health["ready"] and idle)

    wait_for(whole, "a fleet without leaked attempts", limit_s=45)
    left = [Path(f"/proc/{pid}").exists() for pid in left_running(played["folder"])]
    assert left == [False], "a failed attempt's process runs on in a recycled worker"
    counts = {len(os.listdir(f"/proc/{pid}/fd")) for pid in fleet.pids("agents")}
    assert max(counts) - min(counts) <= 3, counts


def left_running(folder: Path) -> list[int]:
    return [int((folder / "leaves-a-process.log").read_text())]
