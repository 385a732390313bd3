"""
Outlast as it is installed: the wheel alone, in an empty environment, from another
folder, beside a project that has names of its own.
"""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from wheels import Environment, build

from testkit.processes import PROJECT_FOLDER

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

# One process plays all, so its pid in the result is of the second attempt.
AGENTS = """
import os
import signal

from activities import charge
from outlast import Context, agent
from pydantic import BaseModel


class Done(BaseModel):
    steps: list[int] = []


@agent("steps")
async def play(given: dict, ctx: Context) -> dict:
    done = await ctx.resume(Done, Done())
    for step in range(len(done.steps), 4):
        done.steps.append(charge(step))
        await ctx.save(done)
        if step == 1 and ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"steps": done.steps, "attempt": ctx.attempt}
"""
MISSION = "goal: take some steps\ntasks: [{id: t, role: steps}]\n"
NOT_OURS = "raise RuntimeError('a user's own module that nobody asked for')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.make(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """
    A project that is laid out as Temporal's samples are.
    """
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "activities.py").write_text("def charge(n): return n * n\n")
    (tmp_path / "m.yaml").write_text(MISSION)
    for name in ("worker.py", "starter.py", "workflows/__init__.py", "tests.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(NOT_OURS)
    return tmp_path


def test_only_one_name_is_installed(wheel: Path) -> None:
    """
    The package with the crew, the workflows and the mark that it is typed.
    """
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {each.split("/")[0].split("-")[0] for each in names} == {"outlast"}
    for each in ("workflows/supervisor.py", "crew/writer.py", "py.typed"):
        assert f"outlast/{each}" in names


@pytest.mark.parametrize("command", ["outlast", "outlast-worker"])
def test_the_commands_are_there(
    installed: Environment, tmp_path: Path, command: str
) -> None:
    said = installed.run(tmp_path, command, "--help")
    assert said.code == 0, said.err
    assert f"Usage: {command}" in said.out


def test_a_killed_mission_is_finished(installed: Environment, project: Path) -> None:
    """
    The worker kills itself in the middle; what it had saved is not done again.
    """
    ran = installed.run(
        project,
        *("outlast", "run", "m.yaml", "--embedded", "--json", "--id", "m"),
        OUTLAST_AGENTS="agents",
    )
    assert ran.code == 0, ran.err
    (task,) = json.loads(ran.out)["tasks"]
    assert task["status"] == "done"
    assert task["attempts"] == 2
    shown = installed.run(project, "outlast", "results", "m")
    assert json.loads(shown.out)["result"] == {"steps": [0, 1, 4, 9], "attempt": 2}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """
    The example's project, out of this checkout: what `outlast new words` writes.
    """
    return Path(
        shutil.copytree(PROJECT_FOLDER / "examples" / "words", tmp_path / "words")
    )


def test_the_examples_project_runs(installed: Environment, words: Path) -> None:
    """
    Its own test, and its mission, from a folder within it: agents and home are the
    project's.
    """
    tested = installed.run(words, "python", "-m", "pytest", "-q", "-p", "no:asyncio")
    assert tested.code == 0, tested.out
    ran = installed.run(
        words / "tests",
        *("outlast", "run", "../mission.yaml", "--embedded", "--json", "--id", "m"),
    )
    assert ran.code == 0, ran.err
    assert (words / ".outlast" / "store.db").is_file()
    shown = installed.run(words, "outlast", "results", "m")
    assert json.loads(shown.out)["result"] == {"counts": [4, 3, 3]}


def test_a_new_project_is_written_and_checked(
    installed: Environment, tmp_path: Path
) -> None:
    """
    And a name in it that there is not is one sentence.
    """
    made = installed.run(tmp_path, "outlast", "new", "my-shop")
    assert made.code == 0, made.err
    assert "cd my-shop && outlast run mission.yaml --embedded" in made.out
    again = installed.run(tmp_path, "outlast", "new", "my-shop")
    assert (again.code, again.err.count("\n")) == (2, 1)
    project = tmp_path / "my-shop" / "pyproject.toml"
    project.write_text(project.read_text().replace("my_shop.agents", "no_such"))
    run = ("outlast", "run", "mission.yaml", "--embedded")
    refused = installed.run(tmp_path / "my-shop", *run)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert line.startswith("error: agents in 'no_such' cannot load: ModuleNotFound")
