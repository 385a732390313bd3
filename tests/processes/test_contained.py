"""
What agents start, exit with and keep, on real fleets whose workers are forked, or
started by exec.
"""

import json
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from outlast.dev.ports import choose_ports
from outlast.dev.server import DevServer
from testkit.proc import family
from testkit.processes import PROJECT_FOLDER, Home, mission, wait_for

AGENTS = PROJECT_FOLDER / "tests" / "processes" / "guest_agents.py"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(
    scope="module", params=["fork", pytest.param("exec", marks=pytest.mark.long)]
)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """
    A home with one fleet that plays the guests.
    """
    path = tmp_path_factory.mktemp(request.param)
    made = Home(path, DevServer(path, *choose_ports(None, None)))
    made.extra["OUTLAST_AGENTS"] = str(AGENTS)
    if request.param == "exec":
        made.extra["GUEST_THREAD"] = "1"
    made.start_server()
    try:
        made.fleet(2)
        yield made
    finally:
        made.close()


def task(role: str, folder: Path, name: str = "", **given: Any) -> dict[str, Any]:
    name = name or role
    return {
        "id": name,
        "role": role,
        "input": {"log": str(log_of(folder, name)), **given},
    }


def log_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def lines(folder: Path, name: str) -> list[str]:
    return log_of(folder, name).read_text().splitlines()


def test_a_guest_is_contained(home: Home, tmp_path: Path) -> None:
    """
    Processes of a killed worker are dead before the next attempt begins; exit codes are
    the agents' own; forked children end by SIGTERM; an attempt that is isolated finds
    and leaves nothing. The mission and the fleet are whole afterwards.
    """
    tasks = [
        task("killed", tmp_path),
        *(task("exits", tmp_path, f"exits-{code}", code=code) for code in (0, 2, 3)),
        task("forks", tmp_path),
        task("isolated", tmp_path, "isolated-1"),
        task("isolated", tmp_path, "isolated-2"),
    ]
    for before, each in pairwise(tasks[:5]):
        each["needs"] = [before["id"]]  # one death at a time
    path = mission(tmp_path / "guest.yaml", tasks, id=f"guest-{tmp_path.name}")
    said = home.starter("run", path, "--json")

    assert said.code == 0, said.out + said.err
    told = home.starter("explain", f"guest-{tmp_path.name}", "--json").json["attempts"]
    second = [each for each in told if each["attempt"] == 2]
    causes = {each["task"]: each["previous_failure"] for each in second}
    by_itself = "exit report: killed by SIGKILL, which its own code has sent"
    assert causes["killed"] == by_itself
    for code in (0, 2, 3):
        assert causes[f"exits-{code}"] == f"exit report: exited with code {code}"
    assert f"ended by {signal.SIGTERM:d}, mapped [1, 2]" in said.out

    heard = lines(tmp_path, "killed")
    assert "first" in heard
    assert "first" not in heard[heard.index("second attempt") :]
    for name in ("isolated-1", "isolated-2"):
        heard = lines(tmp_path, name)
        assert "attempt 1" not in heard[heard.index("second attempt") :]
    wait_for(lambda: home.fleets[0].health()["ready"], "a whole fleet")


def test_a_drain_is_no_crash_for_who_takes_sigterm(home: Home, tmp_path: Path) -> None:
    """
    The worker is asked over its channel: the attempt is handed on, uncounted. A hang-up
    ends no worker: that is the parent's to do.
    """
    name = f"listens-{tmp_path.name}"
    path = mission(tmp_path / "listens.yaml", [task("listens", tmp_path)], id=name)
    running = home.begin("run", path, "--json")
    wait_for(lambda: log_of(tmp_path, "listens").exists(), "the first attempt")
    parent = home.fleets[0].process
    for pid in family(parent.pid)[1:]:
        os.kill(pid, signal.SIGHUP)  # as a terminal does that is closed: to all of them
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=30) == 0
    home.fleets[:] = [home.fleet(2)]

    assert running.wait(timeout=60) == 0
    running.communicate()
    told = home.starter("explain", name, "--json").json["attempts"]
    assert [each["detected_by"] for each in told][1:] == ["drain"]
    assert [json.loads(each)["attempt"] for each in lines(tmp_path, "listens")] == [
        1,
        2,
    ]
