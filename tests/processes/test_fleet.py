"""
Real fleets, broken in each way they promise to survive: who notices, how soon, and
from which step work goes on. Bounds are about three times the goals.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from mission_driver import (
    Course,
    children,
    ended,
    endless,
    gone,
    noticed,
    whole,
    workers,
)
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from outlast.dev.ports import choose_ports
from outlast.dev.server import DevServer
from outlast.fleet.exit_report import ExitReporter
from outlast.fleet.exits import Exit, cause_of
from outlast.fleet.orphans import watch_orphans
from outlast.fleet.recorder_reader import CrashedRecorder, recorder_files
from outlast.temporal.connect import connect
from testkit.processes import PROJECT_FOLDER, FleetProcess, Home, wait_for

MEMORY_MB = 400

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Standing"]:
    """
    A home with one fleet that all tests share which leave it as whole as it was.
    """
    path = tmp_path_factory.mktemp("standing")
    home = Home(path, DevServer(path, *choose_ports(None, None)))
    home.extra["OUTLAST_MEMORY_MB"] = str(MEMORY_MB)
    home.start_server()
    try:
        yield Standing(home, home.fleet(processes=3))
    finally:
        home.close()


@dataclass
class Standing:
    home: Home
    fleet: FleetProcess


@pytest.fixture
def course(standing: Standing, tmp_path: Path) -> Iterator[Course]:
    made = Course(standing.home, tmp_path.name, tmp_path)
    yield made
    made.leave()


def ask(fleet: FleetProcess, page: str) -> tuple[int, str]:
    """
    Get a page of the fleet's health.
    """
    url = fleet.ready["health"].replace("/health", f"/{page}")
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def test_a_killed_process_costs_no_step(standing: Standing, course: Course) -> None:
    """
    SIGKILL: noticed by the exit report, tried again within a second from the very last
    completed step.
    """
    course.begin({"t": {"steps": 30}})
    holder = course.past(4, "t")["pid"]
    killed_at = time.time()
    os.kill(holder, signal.SIGKILL)

    assert course.second("t")["at"] - killed_at < 1.0
    assert course.ends() == 0
    course.resumed_in_full("t")
    first, second = course.story()["t"]
    assert first["pid"] == holder
    assert second["previous_failure"] == "exit report: killed by SIGKILL"
    assert second["detected_by"] == "exit_report"
    assert second["resumed_seq"] == course.second("t")["step"]


def test_a_frozen_process_is_killed(standing: Standing, course: Course) -> None:
    """
    SIGSTOP: within 3 s the work goes on elsewhere, and what was frozen is dead, so
    that it never wakes.
    """
    course.begin({"t": {"steps": 30}})
    holder = course.past(4, "t")["pid"]
    frozen_at = time.time()
    os.kill(holder, signal.SIGSTOP)

    assert course.second("t")["at"] - frozen_at < 3.0
    assert gone(holder)
    assert course.ends() == 0
    course.resumed_in_full("t")
    second = course.story()["t"][1]
    assert second["previous_failure"].startswith("exit report: stopped for")
    assert second["detected_by"] == "watchdog"


def test_no_mission_waits_for_dead_workflows(
    standing: Standing, course: Course
) -> None:
    """
    SIGKILL of the process with the workflows while a task runs: the mission goes on
    with another process, and not after a timeout of the dead one's queue.
    """
    course.begin({"t": {"steps": 40}})
    course.past(1, "t")
    course.leave()  # who asks the mission has it freed by the server
    (workflows,) = standing.fleet.pids("workflows")
    os.kill(workflows, signal.SIGKILL)

    told = asyncio.run(history(standing.home, course.name))
    assert len(course.of("t", "start", "end")) == 2
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED in told
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT not in told


async def history(home: Home, mission: str) -> list[EventType.ValueType]:
    """
    Wait for the mission's end; returns the types of its events.
    """
    handle = (await connect(home.server.address)).get_workflow_handle(mission)
    await handle.result()
    found = await handle.fetch_history()
    return [each.event_type for each in found.events]


@pytest.mark.parametrize(
    ("how", "within_s", "cause"),
    [
        ("segfault", 1.0, "killed by SIGSEGV"),
        ("block", 9.0, "silent and idle for"),
        ("memory", 4.5, f"memory over the cap of {MEMORY_MB} MB"),
    ],
)
def test_an_agent_that_harms_its_process_is_survived(
    standing: Standing, course: Course, how: str, within_s: float, cause: str
) -> None:
    """
    What its code does to the process is named, and the task goes on from the step
    before.
    """
    misdeed = {"attempt": 1, "step": 4, "how": how}
    course.begin({"t": {"steps": 8, "misbehave": misdeed}})
    last = course.past(2, "t")

    assert course.second("t")["at"] - last["at"] < within_s
    assert course.ends() == 0
    course.resumed_in_full("t")
    first, second = course.story()["t"]
    assert second["previous_failure"].startswith(f"exit report: {cause}")
    assert gone(first["pid"])


def test_killers_take_no_innocent_along(standing: Standing, course: Course) -> None:
    """
    2 tasks that kill their process at every attempt, 12 that do not, 3 processes: 12
    done, 2 dead of a true cause after at most 3 attempts each.
    """
    wait_for(lambda: whole(standing.fleet), "the whole fleet")
    killers = {
        f"killer{step}": {
            "steps": 5,
            "misbehave": {"step": step, "how": "crash"},
        }
        for step in (1, 3)
    }
    course.begin({f"t{n}": {"steps": 20} for n in range(12)} | killers)

    assert course.ends() == 1
    ended_as = {each["id"]: each for each in course.report["tasks"]}
    assert Counter(each["status"] for each in ended_as.values()) == {
        "done": 12,
        "dead": 2,
    }
    for name in killers:
        assert ended_as[name]["status"] == "dead"
        told = "".join(map(str, ended_as[name].values()))
        assert "exit report: killed by SIGKILL" in told
        # Its own deaths: those before its fatal step were a neighbour's doing.
        fatal = int(name.removeprefix("killer"))
        at_fatal = [
            each for each in course.of(name, "start") if each["step"] == fatal - 1
        ]
        assert 2 <= len(at_fatal) <= 3
    steps = [each for n in range(12) for each in course.of(f"t{n}", "step")]
    last = [course.of(name, "start")[-1] for name in killers]
    shared = [
        (each, step)
        for each in last
        for step in steps
        if step["pid"] == each["pid"] and step["at"] > each["at"]
    ]
    assert not shared, "suspects do not run alone"
    for number in range(12):
        steps = Counter(each["step"] for each in course.of(f"t{number}", "step"))
        assert set(steps) == set(range(1, 21))


def test_health_answers_and_counts(standing: Standing) -> None:
    """
    Alive while it is not whole, ready once it is, and each restart is counted.
    """
    fleet = standing.fleet
    wait_for(lambda: ask(fleet, "ready")[0] == 200, "ready")
    before = fleet.health()
    os.kill(fleet.pids("agents")[0], signal.SIGKILL)

    wait_for(lambda: ask(fleet, "ready")[0] == 503, "not ready", limit_s=2.0)
    assert ask(fleet, "live")[0] == 200
    wait_for(lambda: ask(fleet, "ready")[0] == 200, "ready again", limit_s=10.0)

    after = fleet.health()
    assert after["restarts"] == before["restarts"] + 1
    kinds = Counter(each["kind"] for each in after["processes"])
    assert kinds == {"workflows": 1, "agents": 3, "quarantine": 1}
    code, scraped = ask(fleet, "metrics")
    assert code == 200
    assert f"outlast_restarts_total {float(after['restarts'])}" in scraped
    assert scraped.count("outlast_process_polling{") == 5
    assert ask(fleet, "elsewhere")[0] == 404


def test_stopping_hands_on_what_is_in_hand(own: Course) -> None:
    """
    SIGTERM with 8 attempts in hand: each goes on at another fleet from its checkpoint,
    none counts as a crash, and the fleet ends with exit code 0.
    """
    leaving = own.home.fleet(processes=2)
    names = [f"t{number}" for number in range(8)]
    own.begin(endless(names))
    for name in names:
        own.past(1, name)
    in_hand = [each["in_flight"] for each in leaving.health()["processes"]]
    assert sum(in_hand) == 8, "they are not all in hand"
    staying = own.home.fleet(processes=2)

    assert leaving.stop() == 0

    pids = set(workers(staying))
    for name in names:
        second = own.second(name)
        assert second["pid"] in pids
        own.past(second["step"], name)
        own.resumed_in_full(name)
        own.never_twice_at_once(name)
    assert noticed(own) == {"the worker drained"}
    own.cancel()


def test_a_lost_parent_takes_its_children_along(own: Course) -> None:
    """
    SIGKILL of the parent alone: its children hand on and end within 6 s, and nothing
    runs twice at once.
    """
    lost = own.home.fleet(processes=2)
    names = [f"t{number}" for number in range(4)]
    own.begin(endless(names))
    for name in names:
        own.past(1, name)
    staying = own.home.fleet(processes=1)
    orphans = workers(lost) + children(lost.process.pid)

    lost.process.kill()

    wait_for(lambda: all(map(gone, orphans)), "the children's end", limit_s=6.0)
    pids = set(workers(staying))
    for name in names:
        second = own.second(name)
        assert second["pid"] in pids
        own.past(second["step"], name)
        own.never_twice_at_once(name)
        own.resumed_in_full(name)
    own.cancel()


def test_what_a_lost_fleet_had_in_hand_is_adopted(own: Course) -> None:
    """
    Parent and children killed: what lies in their recorders is reported by whoever
    adopts it, which the next fleet of the home does as it starts; none is left.
    """
    folder = own.home.path / "run"
    lost = own.home.fleet(processes=2)
    names = [f"t{number}" for number in range(4)]
    own.begin(endless(names))
    for name in names:
        own.past(1, name)
    kill_whole(lost)
    paths = recorder_files(folder)
    assert len(paths) == 4, "not one for each process"
    wait_for(lambda: all(map(CrashedRecorder.open, paths)), "their locks", limit_s=2.0)
    left = {each: each.read_bytes() for each in paths}

    # Not left to the next fleet alone: whether it starts within the heartbeat timeout
    # is the machine's affair.
    assert asyncio.run(adopt(own.home)) == len(names)
    assert recorder_files(folder) == []
    for path, body in left.items():
        path.write_bytes(body)
    later = own.home.fleet(processes=1)

    wait_for(
        lambda: not set(left) & set(recorder_files(folder)), "adoption", limit_s=5.0
    )
    pids = set(workers(later))
    for name in names:
        second = own.second(name)
        assert second["pid"] in pids
        own.past(second["step"], name)
        own.resumed_in_full(name)
    assert noticed(own) == {"exit report: its fleet was lost"}
    own.cancel()
    assert later.stop() == 0
    assert recorder_files(folder) == []


def test_a_lost_fleet_is_adopted_by_the_one_beside_it(own: Course) -> None:
    """
    It runs already, and reports what the other had in hand before any heartbeat
    timeout would.
    """
    lost = own.home.fleet(processes=1)
    own.begin(endless(["t0", "t1"]))
    for name in ("t0", "t1"):
        own.past(1, name)
    beside = own.home.fleet(processes=1)
    kill_whole(lost)

    for name in ("t0", "t1"):
        assert own.second(name)["pid"] in workers(beside)
        own.resumed_in_full(name)
    assert noticed(own) == {"exit report: its fleet was lost"}
    own.cancel()
    assert beside.stop() == 0
    assert recorder_files(own.home.path / "run") == []


def kill_whole(fleet: FleetProcess) -> None:
    """
    SIGKILL a fleet, the parent first.
    """
    pids = workers(fleet)
    fleet.process.kill()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def adopt(home: Home) -> int:
    async def to_server() -> Client:
        return await connect(home.server.address)

    reporter = ExitReporter(to_server)
    count = 0
    async for lost in watch_orphans(home.path / "run", ours=[]):
        for each in lost:
            count += await reporter.report(each, Exit("its fleet was lost"))
        if not recorder_files(home.path / "run"):
            break
    return count


def test_a_fleet_without_its_zygotes_still_starts_workers(home: Home) -> None:
    """
    A zygote is a convenience: killed, it is replaced or done without, while the
    workers that it had forked live on.
    """
    with ended(home.fleet(processes=2)) as fleet:
        zygotes = children(fleet.process.pid)
        assert len(zygotes) == 2, zygotes
        for pid in zygotes:
            os.kill(pid, signal.SIGKILL)
        victim, neighbour = fleet.pids("agents")
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            return whole(fleet) and victim not in workers(fleet)

        wait_for(replaced, "a new worker", limit_s=10.0)
        assert neighbour in workers(fleet)
        assert fleet.stop() == 0


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--processes", "0"], "--processes 0"),
        (["--memory-mb", "1"], "1 MB"),
        (["--health-port", "USED"], "USED"),
        (["--health-port", "99999"], "99999"),
    ],
    ids=["processes", "memory", "port in use", "no port"],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, args: list[str], named: str
) -> None:
    """
    One sentence that names what was asked, exit code 2, nothing started.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = str(taken.getsockname()[1])
        args, named = ([s.replace("USED", used) for s in p] for p in (args, [named]))
        sentence = refusal(tmp_path, *args)
    assert named[0] in sentence


@pytest.mark.parametrize("freeze_s", ["0.1", "0", "61", "soon"])
def test_a_freeze_limit_that_cannot_work_is_refused(
    tmp_path: Path, freeze_s: str
) -> None:
    """
    Below a few ticks it would kill the healthy; a minute or a word is no limit either.
    """
    assert "OUTLAST_UNRESPONSIVE_S" in refusal(
        tmp_path, OUTLAST_UNRESPONSIVE_S=freeze_s
    )


def refusal(tmp_path: Path, *args: str, **environment: str) -> str:
    """
    Start a fleet that must refuse to start; returns its one sentence.
    """
    refused = subprocess.run(
        [sys.executable, "worker.py", *args],
        cwd=PROJECT_FOLDER,
        env={**os.environ, "OUTLAST_HOME": str(tmp_path / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert refused.stdout == ""
    (sentence,) = refused.stderr.splitlines()
    assert sentence.startswith("error: ")
    return sentence


def test_every_way_to_die_has_words() -> None:
    """
    Whatever a worker dies of, its parent can say so: real-time signals have no names.
    """
    causes = [cause_of(code) for code in (None, *range(-64, 256))]
    assert all(causes)
    assert cause_of(-9) == "killed by SIGKILL"
    assert cause_of(3) == "exited with code 3"
