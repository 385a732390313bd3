"""
Two fleets with homes of their own and one PostgreSQL: two hosts, as far as one
machine allows.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
from test_kills import assert_each_once, rehearsals

from testkit.postgres import Postgres
from testkit.processes import (
    PROJECT_FOLDER,
    FleetProcess,
    Home,
    events,
    mission,
    wait_for,
)

TASKS = 6
AWAY_S = 20.0


@pytest.fixture
def database(home: Home, postgres: Postgres) -> str:
    """
    The store of both hosts.
    """
    url = postgres.database()
    home.extra["OUTLAST_DATABASE_URL"] = url
    return url


@pytest.fixture
def other(home: Home, database: str, tmp_path: Path) -> Iterator[Home]:
    """
    The second host: it shares the server and the database, and nothing else.
    """
    made = Home(tmp_path / "other", home.server, {"OUTLAST_DATABASE_URL": database})
    yield made
    for fleet in made.fleets:
        fleet.stop()


def lose(fleet: FleetProcess) -> set[int]:
    """
    SIGKILL every process of *fleet*, its parent first; returns their ids.
    """
    pids = {each["pid"] for each in fleet.health()["processes"]}
    fleet.process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    fleet.process.wait()
    return pids


def test_all_goes_on_when_a_whole_host_is_lost(
    home: Home, other: Home, tmp_path: Path
) -> None:
    """
    Everything its fleet had in hand goes on in the other one from the last step,
    and each effect happens once.
    """
    log = tmp_path / "log.jsonl"
    lost = home.fleet(processes=2)
    path = mission(tmp_path / "m.yaml", rehearsals(log, TASKS, 1.5), id="hosts")
    starter = home.begin("run", path, "--json")
    wait_for(lambda: len(events(log, "step")) > TASKS, "steps on the first host")
    other.fleet(processes=2)

    killed_at = time.time()
    pids = lose(lost)
    running = {each["task"] for each in events(log, "start") if each["pid"] in pids}
    assert starter.wait(timeout=90) == 0, starter.communicate()

    assert_each_once(log, TASKS, kills=1)
    again = [each for each in events(log, "start") if each["at"] > killed_at]
    first = {each["task"]: each["at"] - killed_at for each in reversed(again)}
    assert running <= set(first)
    assert max(first.values()) < 2 * 2.0, first  # 2 s is what benchmarks hold it to
    audit = other.starter("audit", "hosts", "--json")
    assert audit.code == 0, audit.out
    assert [each["applied"] for each in audit.json["effects"]] == [1] * TASKS


def test_nothing_is_lost_while_the_database_is_away(
    home: Home, database: str, postgres: Postgres, tmp_path: Path
) -> None:
    """
    Stopped for 20 s in mid-mission: all waits for it, nothing happens twice and no
    agent is charged with a failure.
    """
    log = tmp_path / "log.jsonl"
    fleet = home.fleet(processes=2)
    path = mission(tmp_path / "m.yaml", rehearsals(log, TASKS, 0.5), id="away")
    starter = home.begin("run", path, "--json")
    wait_for(lambda: len(events(log, "step")) > TASKS, "steps before the fault")

    postgres.stop()
    stopped = len(events(log, "step"))
    back = Timer(AWAY_S, postgres.start)
    back.start()
    os.kill(fleet.pids("agents")[0], signal.SIGKILL)  # and its successor waits too
    back.join()
    went_on = len(events(log, "step")) - stopped
    assert went_on <= 2 * TASKS, "agents went on without their ledger"

    assert starter.wait(timeout=90) == 0, starter.communicate()
    assert_each_once(log, TASKS, kills=2)
    audit = home.starter("audit", "away", "--json")
    assert audit.code == 0, audit.out
    assert [each["applied"] for each in audit.json["effects"]] == [1] * TASKS


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nobody:secret@127.0.0.1:1/outlast", "127.0.0.1"),
        ("mysql://me:secret@localhost/outlast", "OUTLAST_DATABASE_URL"),
    ],
    ids=["away", "another kind"],
)
def test_a_store_that_refuses_is_one_sentence(home: Home, url: str, told: str) -> None:
    """
    Without the password.
    """
    home.extra["OUTLAST_DATABASE_URL"] = url
    said = home.starter("audit")
    assert said.code == 2
    (line,) = said.err.strip().splitlines()
    assert told in line
    assert "secret" not in line


def test_a_fleet_waits_for_a_database_that_is_away_and_for_no_other(home: Home) -> None:
    """
    It says so, without the password, and ends when it is asked to.
    """
    home.extra["OUTLAST_DATABASE_URL"] = "mysql://me:secret@localhost/outlast"
    refused = home.run("worker.py")
    assert refused.code == 2
    assert "secret" not in refused.err

    away = "postgresql://nobody:secret@127.0.0.1:1/outlast"
    fleet = subprocess.Popen(
        [sys.executable, "worker.py", "--processes", "1"],
        cwd=PROJECT_FOLDER,
        env={**home.environment, "OUTLAST_DATABASE_URL": away},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert fleet.stderr is not None
    line = next(each for each in fleet.stderr if "store.unavailable" in each)
    assert "127.0.0.1:1" in line
    assert "secret" not in line
    fleet.terminate()
    assert fleet.wait(timeout=60) == 0
