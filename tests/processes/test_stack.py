"""
The development stack: killed, hung up, started twice, and from another folder.
"""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testkit.processes import PROJECT_FOLDER, events, wait_for
from testkit.stack_faults import FAULT_STEPS, StackSetup, StackWatch, moments, survive

SEED = 15
STARTER = str(PROJECT_FOLDER / "starter.py")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[StackSetup]:
    made = StackSetup(tmp_path)
    yield made
    made.close()


def line_of(process: subprocess.Popen[str]) -> dict[str, object]:
    """
    Read the next line of JSON that *process* prints.
    """
    assert process.stdout is not None
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


@pytest.mark.long
def test_killed_at_any_moment_it_is_whole_again_with_one_command(
    ground: StackSetup,
) -> None:
    """
    In its start, its work and its stop: no state lost, never two servers on one file.
    The drill (`python -m testkit.stack_faults`) has more moments.
    """
    watch = StackWatch(ground)
    with watch.on():
        for number, moment in enumerate(moments(SEED, 3)):
            print(survive(ground, f"m{number}", moment))
        ground.stop()
    assert watch.most == 1


def test_a_second_stack_takes_the_place_of_the_first(ground: StackSetup) -> None:
    """
    A mission begun while the first one starts waits for it. Under nohup a hang-up is
    none; killed, the first is replaced by the second, at the same address; and where
    nohup is not, a hang-up ends everything in good order.
    """
    nohup = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    dev = [sys.executable, STARTER, "dev", "--json", "--processes", "1"]
    first = ground.start([*nohup, *dev])
    file, log = ground.mission("early")
    early = ground.begin("run", file, "--plain")
    ready = line_of(first)
    _, told = early.communicate(timeout=60)
    assert early.returncode == 0, told
    assert "waiting for the stack that" in told
    assert f"on Temporal {ready['address']}" in told
    assert len(events(log, "effect")) == 1

    first.send_signal(signal.SIGHUP)
    second = ground.dev()
    assert ground.ready == ready
    assert first.poll() is None
    first.kill()
    taken = line_of(second)
    assert taken["address"] == ready["address"]
    assert taken["fleet"] != ready["fleet"]

    second.send_signal(signal.SIGHUP)
    _, told = second.communicate(timeout=30)
    assert second.returncode == 0
    assert "takes its place" in told
    assert "had left running" in told
    wait_for(lambda: not ground.alive(), "an empty home", 15)


def test_a_closed_terminal_loses_nothing(ground: StackSetup) -> None:
    """
    The mission that was followed there, on a stack of its own, goes on when it is
    started again, from its last saved step.
    """
    file, log = ground.mission("closed")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ground.folder)
        command = [sys.executable, STARTER, "run", file, "--embedded"]
        os.execve(sys.executable, command, ground.environment)
    os.set_blocking(terminal, False)

    def two_steps() -> bool:
        with suppress(BlockingIOError):
            os.read(terminal, 65_536)  # else the display would fill it, and wait
        return len(events(log, "step")) > 1

    wait_for(two_steps, "two steps")
    os.close(terminal)
    wait_for(lambda: not ground.alive(), "an empty home", 30)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert len(events(log, "step")) < FAULT_STEPS

    again = ground.begin("run", file, "--embedded", "--json")
    _, told = again.communicate(timeout=60)
    assert again.returncode == 0, told
    steps = [each["step"] for each in events(log, "step")]
    assert steps == list(range(1, FAULT_STEPS + 1)), "no step may be lost or repeated"
    assert len(events(log, "effect")) == 1
