"""
A person at `dev` sees their own bug, mends it, and nothing that was under way is lost.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit.processes import PROJECT_FOLDER, CommandResult, wait_for

AGENTS = """
import asyncio, logging
from outlast import Policy, agent

log = logging.getLogger(__name__)

@agent("own-nasty")
async def nasty(given: dict, ctx) -> dict:
    print("printed \\x1b]0;owned\\x07")
    return {"summary": "\\x1b[2J\\x1b[31mred\\x1b[0m \\u202egnp.exe"}

@agent("own-broken", policy=Policy(failures=2))
def broken(given: dict, ctx) -> dict:
    log.info("looking it up")
    return {"of": {}[ctx.secret("pay")]}

@agent("own-slow")
async def slow(given: dict, ctx) -> dict:
    for step in range(await ctx.resume(int, 0), 40):
        await ctx.save(step + 1)
        await asyncio.sleep(0.2)
    return {"summary": "by version 1"}
"""
MISSION = """
goal: "all of it \\e]52;c;eA==\\a"
tasks:
  - {id: nasty, role: own-nasty}
  - {id: broken, role: own-broken, required: false}
"""
SLOW = "goal: a while\ntasks: [{id: slow, role: own-slow}]\n"
PLACE = "KeyError: '[secret]' (agents.py:15 in broken: return {\"of\": "


@dataclass
class Project:
    """
    A folder of a user's, with `dev` at work in it.
    """

    folder: Path
    environment: dict[str, str]

    def starter(self, *args: str, printer: str = "utf-8") -> CommandResult:
        ended = subprocess.run(
            [sys.executable, str(PROJECT_FOLDER / "starter.py"), *args],
            cwd=self.folder,
            env={**self.environment, "PYTHONIOENCODING": printer},
            capture_output=True,
            check=False,
            timeout=90,
        )
        out, err = ended.stdout.decode(printer), ended.stderr.decode(printer)
        return CommandResult(ended.returncode, out, err)

    @property
    def log(self) -> str:
        return (self.folder / "dev.log").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    for name, text in (("agents.py", AGENTS), ("m.yaml", MISSION), ("s.yaml", SLOW)):
        (tmp_path / name).write_text(text)
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TEMPORAL_", "OUTLAST_"))
    }
    ours = {"HOME": "home", "AGENTS": "agents.py", "SECRET_PAY": "hunter2"}
    environment = plain | {f"OUTLAST_{name}": value for name, value in ours.items()}
    made = Project(tmp_path, {**environment, "PYTHONPATH": str(PROJECT_FOLDER)})
    with (tmp_path / "dev.log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, str(PROJECT_FOLDER / "starter.py"), "dev"],
            cwd=tmp_path,
            env=made.environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: "Ctrl-C" in made.log, "dev to be ready")
        yield made
    finally:
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(30) == 0


def test_a_person_sees_their_own_bug_and_mends_it(project: Project) -> None:
    """
    In the report, status, dead-letters, explain and the log, without escape sequences
    or secrets; then the file changes under a mission, which goes on.
    """
    ran = project.starter("run", "m.yaml", "--id", "m", "--plain", printer="ascii")
    told = [ran] + [
        project.starter(verb, "m", *more)
        for verb, *more in (["status"], ["dead-letters"], ["explain", "--traces"])
    ]

    assert ran.code == 0
    for each in told:
        assert "\x1b" not in each.out + each.err
        assert "\u202e" not in each.out + each.err
        assert "hunter2" not in each.out + each.err
        assert PLACE in each.out
    assert "\\x1b[2J\\x1b[31mred" in told[1].out
    assert "Traceback (most recent call last)" in told[3].out
    log = project.log
    assert "\x1b" not in log
    assert "hunter2" not in log
    assert "[m/nasty #1] printed \\x1b]0;owned\\x07" in log
    assert "[m/broken #2] agents looking it up" in log
    assert "[m/broken #2] KeyError: '[secret]'" in log

    slow = subprocess.Popen(
        [
            sys.executable,
            str(PROJECT_FOLDER / "starter.py"),
            "run",
            "s.yaml",
            "--id",
            "s",
        ],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: project.starter("explain", "s").code == 0, "the mission to begin")
    (project.folder / "agents.py").write_text(AGENTS + "def broken(:\n")
    wait_for(lambda: "SyntaxError" in project.log, "the fault to be told")
    (project.folder / "agents.py").write_text(AGENTS.replace("version 1", "version 2"))
    out, _ = slow.communicate(timeout=60)

    assert slow.returncode == 0
    assert "by version 2" in out
    assert "the workers before go on" in project.log
    assert "reloaded in " in project.log
    assert "resumed after step" in project.starter("explain", "s").out
    assert project.starter("audit").code == 0
