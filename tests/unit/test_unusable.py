"""
What a person reads when their agents cannot be used: one sentence, at once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HERE_ONLY = """
import sys
if "outlast.fleet.fork_server" in sys.orig_argv:
    {act}
"""


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def ended(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """
    Run a command of ours on the agents of *tmp_path*.
    """
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            **os.environ,
            "OUTLAST_HOME": str(tmp_path / "home"),
            "OUTLAST_AGENTS": str(tmp_path / "mine.py"),
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_starter_says_it_before_it_starts_anything(
    tmp_path: Path, agents: Path
) -> None:
    """
    Never exit code 0 with nothing done.
    """
    agents.write_text("import sys\nsys.exit(0)\n")
    mission = tmp_path / "mission.yaml"
    mission.write_text("goal: g\ntasks: [{id: a, role: mine}]\n")
    run = ended(tmp_path, "starter.py", "run", str(mission), "--embedded", "--json")
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: agents in {str(agents)!r} cannot load: it calls")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("sys.exit(0)", "it calls sys.exit(0) when imported"),
        ("import ctypes; ctypes.CDLL(None)._exit(0)", "importing them exits with code"),
    ],
    ids=["exits", "exits in C"],
)
def test_a_fleet_says_it_and_ends(
    tmp_path: Path, agents: Path, act: str, told: str
) -> None:
    """
    To a person, and in JSON to what waits for its ready line; no second try.
    """
    agents.write_text(HERE_ONLY.format(act=act))
    fleet = ended(tmp_path, "worker.py", "--json")
    assert fleet.returncode == 2
    assert told in fleet.stderr.splitlines()[-1]
    said = json.loads(fleet.stdout)
    assert said["ready"] is False
    assert told in said["refused"]


def test_doctor_says_it(tmp_path: Path, agents: Path) -> None:
    """
    Beside all else that it finds.
    """
    agents.write_text("print('loud')\ndef\n")
    doctor = ended(tmp_path, "starter.py", "doctor", "--json")
    assert doctor.returncode == 2
    (found,) = [
        each
        for each in json.loads(doctor.stdout)["findings"]
        if each["what"] == "agents"
    ]
    assert not found["ok"]
    assert found["text"].endswith(
        f"cannot load: SyntaxError: invalid syntax ({agents}:2)"
    )
