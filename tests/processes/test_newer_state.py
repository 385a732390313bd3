"""
Two releases at once, and no builds to keep them apart: the older one refuses what the
newer one has written, and nobody pays for it.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from outlast.contracts.versioned import SCHEMA_NUMBER
from testkit.processes import PROJECT_FOLDER, Home, events, mission, wait_for

pytestmark = pytest.mark.timeout(180)

# One failure that counts would be its end.
BRITTLE = """
from outlast.crew.scripted_agent import Script, rehearse
from outlast import Policy, Context, agent


@agent("brittle", policy=Policy(failures=1, crashes=1))
async def play(script: Script, ctx: Context) -> object:
    return await rehearse(script, ctx)
"""
REFUSED = "state.refused: upgraded was written by a newer release"


@dataclass
class Told:
    """
    What fleets have logged so far.
    """

    capture: pytest.CaptureFixture[str]
    lines: list[str] = field(default_factory=list)

    def refusals(self, logger: str) -> list[str]:
        self.lines += self.capture.readouterr().err.splitlines()
        return [each for each in self.lines if each.startswith(f"{logger} {REFUSED}")]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    return Told(capfd)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """
    The release after this one, whose state has the next schema number.
    """
    folder = tmp_path / "newer"
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_FOLDER / "outlast", folder / "outlast", ignore=without)
    for name in ("starter.py", "worker.py"):
        shutil.copy(PROJECT_FOLDER / name, folder)
    state = folder / "outlast" / "contracts" / "versioned.py"
    ours, theirs = (f"\nSCHEMA_NUMBER = {SCHEMA_NUMBER + n}\n" for n in (0, 1))
    text = state.read_text()
    assert text.count(ours) == 1
    state.write_text(text.replace(ours, theirs))
    return folder


def plays(home: Home, role: str) -> None:
    home.extra["OUTLAST_ROLES"] = role


def test_what_a_newer_release_has_written_waits_for_it(
    home: Home, newer: Path, told: Told, tmp_path: Path
) -> None:
    """
    Old workflow and agent processes refuse it in one line each time; the mission
    neither fails nor loses the one failure that its task may have, and workers of the
    newer release finish it.
    """
    agents = tmp_path / "brittle.py"
    agents.write_text(BRITTLE)
    home.extra["OUTLAST_AGENTS"] = str(agents)
    log = tmp_path / "log.jsonl"
    task = {"id": "t", "role": "brittle", "input": {"steps": 1, "log": str(log)}}
    path = mission(tmp_path / "m.yaml", [task], id="upgraded")

    plays(home, "brittle")
    old = home.fleet(processes=1)
    home.code = newer
    starter = home.begin("run", path, "--json")
    workflows = "temporalio.worker._workflow_instance"
    wait_for(lambda: told.refusals(workflows), "a refused mission")

    plays(home, "rehearse")  # newer workflow processes, and old agents
    home.fleet(processes=1)
    activity = "temporalio.activity"
    refused = wait_for(lambda: told.refusals(activity)[3:], "a task refused often")
    assert f"schema number {SCHEMA_NUMBER + 1}" in refused[0]
    assert "start workers of the newer release" in refused[0]
    assert home.starter("status", "upgraded", "--json").json["status"] == "accepted"
    assert home.starter("explain", "upgraded", "--json").json["attempts"] == []

    plays(home, "brittle")
    assert old.stop() == 0
    home.fleet(processes=1)
    out, err = starter.communicate(timeout=90)
    assert starter.returncode == 0, err
    (done,) = json.loads(out)["tasks"]
    assert (done["status"], done["attempts"], done["reasons"]) == ("done", 1, [])
    assert len(events(log, "start")) == 1
    assert not [each for each in told.lines if "Traceback" in each]
