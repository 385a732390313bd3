"""
What the end of a worker process tells: in words, and who is to blame.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.quarantine import UNSEEN_DEATH
from outlast.fleet.exits import Exit, Exits, attribution_of
from outlast.fleet.oom import RECENT_OOM_S, OomKills
from outlast.fleet.process_kinds import (
    Attribution,
    ExitReason,
    ProcessKind,
    ProcessState,
    recorder_path,
)
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_reader import InFlightAttempt

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nowhere/1.rec")
KILLED = -signal.SIGKILL


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    path = tmp_path / "memory.events"
    path.write_text("oom 7\noom_kill 2\noom_group_kill 0\n")
    return path


@pytest.fixture
def exits(clock: Clock, counted: Path) -> Exits:
    return Exits(OomKills(clock, counted), clock)


def child(kind: ProcessKind = ProcessKind.QUARANTINE, **more: object) -> ProcessSlot:
    made = ProcessSlot(kind, state=ProcessState.POLLING)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def hand(task: str, *items: int, mission: str = "m") -> InFlightAttempt:
    return InFlightAttempt(b"", mission, task, "r", 1, Checkpoint(value=list(items)))


def killed(
    exits: Exits,
    *hands: InFlightAttempt,
    kind: ProcessKind = ProcessKind.QUARANTINE,
    idle: bool = False,
) -> Exit:
    """
    Have a process killed with *hands* in hand.
    """
    ended = exits.read(child(kind), KILLED, NOWHERE)
    ended.set_in_flight(hands, idle=idle or not hands)
    return ended


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGXCPU"])
def test_a_fault_explains_itself(name: str) -> None:
    assert attribution_of(-signal.Signals[name].value) is Attribution.OWN


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_an_exit_code_explains_itself(code: int) -> None:
    assert attribution_of(code) is Attribution.OWN


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_what_anybody_may_send_is_open(name: str) -> None:
    assert attribution_of(-signal.Signals[name].value) is Attribution.OPEN


def test_an_end_that_nobody_has_seen_is_nobodys() -> None:
    assert attribution_of(None) is Attribution.NONE


def test_what_we_end_and_what_cannot_work_are_nobodys_fault(exits: Exits) -> None:
    """
    A worker that has said why it ends, did not drain, or polls nothing.
    """
    leaving = child()
    leaving.draining.set()
    ends = [
        exits.read(child(exit_reason=ExitReason.FAILED), 1, NOWHERE),
        exits.read(leaving, KILLED, NOWHERE),
        exits.read(child(killed_for="it polls nothing"), KILLED, NOWHERE),
    ]
    assert [each.death() for each in ends] == [UNSEEN_DEATH] * 3
    assert killed(exits).death().other_s is None, "and no weather"


def test_the_watchdog_has_said_who_is_to_blame(exits: Exits) -> None:
    """
    What was silent or too large has done so itself; anybody may have stopped it.
    """
    large = child(killed_for="memory over the cap of 9 MB", attribution=Attribution.OWN)
    frozen = child(killed_for="stopped for 1.1 s", attribution=Attribution.OPEN)
    assert exits.read(large, KILLED, NOWHERE).death().own
    assert not exits.read(frozen, KILLED, NOWHERE).death().own
    assert killed(exits).death().other_s == 0


def test_a_death_tells_of_the_kills_before_it(exits: Exits, clock: Clock) -> None:
    """
    The age of the latest; a death that explains itself is no weather.
    """
    killed(exits)
    clock.now += 2
    exits.read(child(), -signal.SIGSEGV, NOWHERE)
    clock.now += 4
    death = killed(exits).death()
    assert (death.other_s, death.outside_s, death.watched_s) == (6.0, 6.0, 6.0)
    assert not death.own


def test_kills_in_a_row_are_a_storm(exits: Exits, clock: Clock) -> None:
    """
    What is killed at its start then is no sign that workers cannot start.
    """
    assert not killed(exits).in_storm
    clock.now += 0.5
    assert killed(exits).in_storm
    assert not exits.read(child(), 1, NOWHERE).in_storm
    clock.now += 60
    assert not killed(exits).in_storm


def test_ones_own_earlier_deaths_are_no_weather(exits: Exits, clock: Clock) -> None:
    """
    A task's by its name; an item's also where it died among others, in another lease.
    """
    killed(exits, hand("t"), hand("u"))
    clock.now += 1
    killed(exits, hand("lease~1", 4, 5, mission="b"))
    clock.now += 1
    ended = killed(exits, hand("t"))
    of_each = [
        (hand("t"), 1.0),
        (hand("t", mission="other"), 1.0),
        (hand("quarantine~5", 5, mission="b"), 2.0),
        (hand("quarantine~6", 6, mission="b"), 1.0),
    ]
    for each, other_s in of_each:
        assert ended.death(each).other_s == other_s
    assert killed(exits, hand("u")).death(hand("t")).other_s == 1.0


def test_suspects_that_die_in_quarantine_are_told_apart(
    exits: Exits, clock: Clock
) -> None:
    """
    Several poison tasks would hide each other. Where nothing was in hand it was none.
    """
    killed(exits, kind=ProcessKind.AGENTS)
    clock.now += 1
    killed(exits, hand("t"), kind=ProcessKind.QUARANTINE)
    clock.now += 1
    death = killed(exits).death(hand("u"))
    assert (death.other_s, death.outside_s) == (1.0, 2.0)
    killed(exits, hand("t"), kind=ProcessKind.QUARANTINE, idle=True)  # it had returned
    assert killed(exits).death(hand("u")).outside_s == 0.0


def test_the_kernels_count_explains_one_kill_each(
    exits: Exits, clock: Clock, counted: Path
) -> None:
    """
    The first after it has grown, and only a moment later.
    """
    assert not killed(exits).death().own
    counted.write_text("oom 7\noom_kill 3\n")
    ended = killed(exits)
    assert ended.death().own
    assert ended.cause == "killed by SIGKILL, out of memory"
    assert not killed(exits).death().own
    counted.write_text("oom 7\noom_kill 4\n")
    exits._oom_kills.update()  # as the parent does all the time: of a tool's process
    clock.now += RECENT_OOM_S + 0.1
    assert not killed(exits).death().own


def test_without_a_count_no_kill_is_explained(tmp_path: Path) -> None:
    assert not OomKills(file=tmp_path / "nothing").is_recent()


OWN_KILL = """
import os, signal, sys, threading
from pathlib import Path
from outlast.fleet.own_kill import on_own_kill
from outlast.fleet.flight_recorder import FlightRecorder

recorder = FlightRecorder(Path(sys.argv[1]))
on_own_kill(recorder.note_self_kill)
os.kill(os.getpid(), 0)  # is no kill
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
os.setpgrp()
print("ready", flush=True)
exec(sys.stdin.read())
"""
WAYS = {
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "bound early": "from os import kill; kill(os.getpid(), 9)",
    "group": "os.killpg(0, signal.SIGKILL)",
    "thread": "signal.pthread_kill(threading.get_ident(), signal.SIGKILL)",
}


def dies(tmp_path: Path, line: str) -> Path:
    """
    Have a process with a recorder die by *line*; returns the recorder.
    """
    recorder = recorder_path(tmp_path, 1)
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_KILL, str(recorder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if not line:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(line)
    assert process.returncode == KILLED
    return recorder


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_kills_itself_has_said_so(
    exits: Exits, tmp_path: Path, way: str
) -> None:
    ended = exits.read(child(), KILLED, dies(tmp_path, WAYS[way]))
    assert ended.death().own
    assert ended.cause == "killed by SIGKILL, which its own code has sent"


def test_a_process_that_others_kill_has_not(exits: Exits, tmp_path: Path) -> None:
    """
    Nor has one whose own children kill themselves.
    """
    ended = exits.read(child(), KILLED, dies(tmp_path, ""))
    assert not ended.death().own
    assert ended.cause == "killed by SIGKILL"
