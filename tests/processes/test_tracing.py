"""
One trace for one mission through all its processes, killed ones too, as a real
receiver gets it; and none of it matters where the receiver is away.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mission_driver import Course
from otlp_receiver import Receiver, Seen, receiving

from testkit.processes import Home, wait_for

AGENT = Path(__file__).parent / "telling_agent.py"
NOBODY = "http://127.0.0.1:1"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def receiver(home: Home) -> Iterator[Receiver]:
    """
    A receiver to which all processes of the home send.
    """
    with receiving() as made:
        send_to(home, made.url)
        yield made


def send_to(home: Home, url: str) -> None:
    home.extra |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OUTLAST_AGENTS": str(AGENT),
        "OUTLAST_SLOTS": "1",  # so that each attempt has a process of its own
    }


@dataclass
class Trace:
    """
    The spans of one mission.
    """

    spans: list[Seen]

    @property
    def root(self) -> Seen:
        ids = {each.id for each in self.spans}
        (found,) = [each for each in self.spans if each.parent not in ids]
        return found

    def line(self, span: Seen) -> list[tuple[str, str]]:
        """
        Name *span* and what is above it, each with the kind of its process.
        """
        by_id = {each.id: each for each in self.spans}
        found = []
        above: Seen | None = span
        while above is not None:
            found.append((above.name, above.process["outlast.process"]))
            above = by_id.get(above.parent)
        return found

    def of(self, name: str, pid: int) -> Seen:
        (found,) = [
            each for each in self.spans if each.name == name and each.pid == pid
        ]
        return found


LINE = [
    ("thinking", "agents"),
    ("invoke_agent telling", "agents"),
    ("RunActivity:telling", "agents"),
    ("StartActivity:telling", "workflows"),
    ("StartWorkflow:Supervisor", "starter"),
    ("mission", "starter"),
]


def test_a_mission_is_one_trace_through_five_processes(
    own: Course, receiver: Receiver
) -> None:
    """
    Starter, workflows and three agent processes, one of them killed in mid-task: one
    trace id, one root, every span below the one that caused it.
    """
    fleet = own.home.fleet(processes=3)
    (workflows,) = fleet.pids("workflows")
    own.begin({"a": {"steps": 30}, "b": {"steps": 30, "effect": "e"}}, role="telling")
    killed, neighbour = (own.past(3, task)["pid"] for task in ("a", "b"))
    os.kill(killed, signal.SIGKILL)
    second = own.second("a")
    assert own.ends() == 0
    wait_for(
        lambda: receiver.number("outlast_recoveries", "exit_report") == 1,
        "the recovery in the metrics",
        limit_s=5.0,
    )
    assert fleet.stop() == 0

    trace = Trace(receiver.spans)
    assert len({each.trace for each in trace.spans}) == 1
    pids = {own.starter.pid, workflows, killed, neighbour, second["pid"]}
    assert len(pids) == 5
    assert {each.pid for each in trace.spans} == pids
    assert (trace.root.name, trace.root.pid) == ("mission", own.starter.pid)
    for pid in (killed, neighbour, second["pid"]):
        assert trace.line(trace.of("thinking", pid)) == LINE
    assert trace.line(trace.of("ctx.once", neighbour))[1:] == LINE
    # The starter's board has asked all the time.
    assert not [each for each in trace.spans if "Query" in each.name]
    told_of_the_dead(trace, killed)
    told_of_the_second(trace, second["pid"], second["step"])
    counted(receiver)


def told_of_the_dead(trace: Trace, pid: int) -> None:
    """
    Its spans end with its death and say of what; each is told once.
    """
    left = [each for each in trace.spans if each.pid == pid]
    assert [each.error for each in left] == ["killed by SIGKILL"] * 3
    run = trace.of("RunActivity:telling", pid)
    assert run.attributes["outlast.task"] == "a"
    assert run.attributes["outlast.attempt"] == 1
    seconds = (run.ended - run.began) / 1e9
    assert 0.1 < seconds < 5


def told_of_the_second(trace: Trace, pid: int, step: int) -> None:
    """
    It says what it goes on after, and that it did.
    """
    for name in ("RunActivity:telling", "invoke_agent telling"):
        said = trace.of(name, pid).attributes
        assert said["outlast.mission"] == "own"
        assert said["outlast.task"] == "a"
        assert said["outlast.role"] == "telling"
        assert said["outlast.attempt"] == 2
        assert said["outlast.resumed_seq"] == step > 0
        assert said["outlast.detected_by"] == "exit_report"
        assert said["outlast.previous_failure"] == "exit report: killed by SIGKILL"
        assert 0 < said["outlast.recovery_s"] < 2
    thinking = trace.of("thinking", pid)
    assert thinking.error is None
    assert thinking.events == ["ctx.saved"] * (30 - step)


def counted(receiver: Receiver) -> None:
    """
    The parent's numbers were those of its page.
    """
    assert receiver.number("outlast_restarts") == 1
    assert receiver.number("outlast_attempts_reported") == 1
    assert receiver.number("outlast_recovery_seconds", "exit_report") == 1
    assert (receiver.number("outlast_heartbeats") or 0) > 0
    assert receiver.number("outlast_parked") == 0


def test_what_a_lost_fleet_had_under_way_is_ended_by_the_next(
    own: Course, receiver: Receiver
) -> None:
    """
    Parent and children killed: whoever adopts their reports ends their spans.
    """
    lost = own.home.fleet(processes=1)
    own.begin({"a": {"steps": 20}}, role="telling")
    holder = own.past(2, "a")["pid"]
    lost.process.kill()
    os.kill(holder, signal.SIGKILL)
    later = own.home.fleet(processes=1)
    assert own.ends() == 0
    assert later.stop() == 0

    trace = Trace(receiver.spans)
    assert trace.root.name == "mission"
    assert trace.line(trace.of("thinking", holder)) == LINE
    assert trace.of("thinking", holder).error == "its fleet was lost"
    assert list((own.home.path / "run").iterdir()) == []


def test_a_receiver_that_is_away_changes_nothing(
    own: Course, capfd: pytest.CaptureFixture[str]
) -> None:
    """
    A death costs what it always costs, an end comes as soon, and each process says at
    most one line about it.
    """
    send_to(own.home, NOBODY)
    fleet = own.home.fleet(processes=2)
    own.begin({"a": {"steps": 30}}, role="telling")
    holder = own.past(3, "a")["pid"]
    killed_at = time.time()
    os.kill(holder, signal.SIGKILL)
    assert own.second("a")["at"] - killed_at < 1.0
    assert own.ends() == 0
    own.resumed_in_full("a")
    began = time.monotonic()
    assert fleet.stop() == 0
    assert time.monotonic() - began < 2.5

    assert own.starter.stderr is not None
    said = capfd.readouterr().err.splitlines()
    said += own.starter.stderr.read().splitlines()
    assert not [line for line in said if "Traceback" in line]
    unsent = [line for line in said if "telemetry.unsent" in line]
    # Starter, parent, workflows, one for suspects, two for agents and the newborn.
    assert 1 <= len(unsent) <= 7
    assert len([line for line in said if "/v1/" in line]) == len(unsent)
