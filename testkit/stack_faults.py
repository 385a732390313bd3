"""
The development stack killed at random moments of its start, its work and its stop: one
command makes it whole again, and nothing is lost.

    python -m testkit.stack_faults [--moments 17] [--seed N]

The seed is printed, and gives the same moments again. Every program is started from
another folder than the project's.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from testkit.proc import processes_of
from testkit.processes import PROJECT_FOLDER, events, mission, rehearsal, wait_for

FAULT_STEPS = 8
FAULT_STEP_S = 0.15
STACK_FAULT_LIMIT_S = 60.0
PROCESSES_END_S = 20.0
# For how long each of them takes on the reference machine.
PHASES = {"start": 3.0, "work": 1.5, "stop": 0.6}
SERVER, FLEET = ("--db-filename",), ("outlast.worker", "outlast.fleet")
# Which processes die with the owner, by what their commands have in them.
STACK_PARTS = {
    "dev": (),
    "dev and server": SERVER,
    "dev and fleet": FLEET,
    "all": (*SERVER, *FLEET),
}


@dataclass
class StackSetup:
    """
    A home, the folder that its user is in, and the programs started there.
    """

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    stack: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TEMPORAL_", "OUTLAST_"))
        }
        ours = {"OUTLAST_HOME": str(self.home), "OUTLAST_ROLES": "rehearse"}
        return {**plain, **ours, "HOME": str(self.folder)}

    def begin(self, *args: str) -> subprocess.Popen[str]:
        return self.start([sys.executable, str(PROJECT_FOLDER / "starter.py"), *args])

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(made)
        return made

    def dev(self) -> subprocess.Popen[str]:
        """
        Start a stack and wait until it is ready; `ready` is its line.
        """
        self.stack = made = self.begin("dev", "--json", "--processes", "1")
        assert made.stdout is not None
        self.ready = json.loads(made.stdout.readline() or "{}")
        return made

    def has_one_stack(self) -> bool:
        return all(
            len(self.alive(part)) == 1 for part in ("--db-filename", "outlast.worker")
        )

    def stop(self) -> None:
        """
        End the stack in good order, if one runs, and see that nothing is left.
        """
        if self.stack is not None:
            self.stack.terminate()
            _, told = self.stack.communicate(timeout=STACK_FAULT_LIMIT_S)
            assert self.stack.returncode == 0, told
        self.stack = None
        wait_for(lambda: not self.alive(), "an empty home", PROCESSES_END_S)

    def mission(self, name: str) -> tuple[str, Path]:
        log = self.folder / f"{name}.jsonl"
        script = {"steps": FAULT_STEPS, "step_seconds": FAULT_STEP_S, "effect": name}
        task = rehearsal("t", log, **script)
        return mission(self.folder / f"{name}.yaml", [task], id=name), log

    def alive(self, part: str = "") -> list[int]:
        return [
            pid
            for pid, command in processes_of(self.home)
            if command and part in " ".join(command)
        ]

    def close(self) -> None:
        for each in self.started:
            if each.poll() is None:
                each.kill()
            each.communicate()
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class StackWatch:
    """
    Counts the servers that share the home's file, all the time.
    """

    ground: StackSetup
    most: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def on(self) -> Iterator[None]:
        watching = threading.Thread(target=self._watch)
        watching.start()
        try:
            yield
        finally:
            self.over.set()
            watching.join()

    def _watch(self) -> None:
        while not self.over.wait(0.1):
            self.most = max(self.most, len(self.ground.alive("--db-filename")))


@dataclass(frozen=True)
class FaultMoment:
    """
    When to kill what.
    """

    phase: str
    after_s: float
    victims: str


def moments(seed: int, count: int) -> list[FaultMoment]:
    """
    Draw *count* moments, of each phase as many.
    """
    dice = random.Random(seed)
    return [
        FaultMoment(
            phase,
            round(dice.uniform(0, PHASES[phase]), 3),
            dice.choice(list(STACK_PARTS)),
        )
        for phase in islice(cycle(PHASES), count)
    ]


def survive(ground: StackSetup, name: str, moment: FaultMoment) -> str:
    """
    Kill the stack at *moment*, make it whole by one command, have the mission *name*
    done, and check all that must hold; returns what was seen, in a line. The stack is
    left for the next moment.
    """
    file, log = ground.mission(name)
    follower = _interrupt(ground, file, name, moment)
    ground.dev()
    follower = follower or ground.begin("run", file, "--json")
    out, err = follower.communicate(timeout=STACK_FAULT_LIMIT_S)
    assert follower.returncode == 0, (moment, err)
    assert json.loads(out)["status"] == "completed", (moment, out)
    wait_for(
        ground.has_one_stack,
        f"one server and one fleet after {moment}",
        PROCESSES_END_S,
    )
    steps = Counter(each["step"] for each in events(log, "step"))
    repeated = steps.total() - FAULT_STEPS
    assert sorted(steps) == list(range(1, FAULT_STEPS + 1)), (moment, steps)
    assert repeated <= 1, (moment, "only the step in flight may be repeated", steps)
    assert len(events(log, "effect")) == 1, moment
    when = f"{moment.after_s:5.3f} s into {moment.phase}"
    return f"{moment.victims:<16} {when}: whole, {repeated} steps repeated"


def _interrupt(
    ground: StackSetup, file: str, name: str, moment: FaultMoment
) -> subprocess.Popen[str] | None:
    """
    Bring the stack into the moment's phase and kill it there; returns the command that
    follows the mission, where it was begun.
    """
    if moment.phase == "start":
        ground.stop()
        dev = ground.begin("dev", "--json", "--processes", "1")
        time.sleep(moment.after_s)
        _kill(ground, dev, moment)
        return None
    dev = ground.stack or ground.dev()
    follower = ground.begin("run", file, "--json")
    wait_for(lambda: events(ground.folder / f"{name}.jsonl", "step"), "a first step")
    if moment.phase == "stop":
        dev.terminate()
    time.sleep(moment.after_s)
    _kill(ground, dev, moment)
    return follower


def _kill(ground: StackSetup, dev: subprocess.Popen[str], moment: FaultMoment) -> None:
    """
    Kill the moment's victims at once, the owner first: it would mend the others.
    """
    dev.kill()
    for part in STACK_PARTS[moment.victims]:
        for pid in ground.alive(part):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    dev.communicate()


def main() -> int:
    reader = argparse.ArgumentParser()
    reader.add_argument("--moments", type=int, default=17)
    reader.add_argument("--seed", type=int, default=random.randrange(10**6))
    told = reader.parse_args()
    print(f"seed {told.seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        ground = StackSetup(Path(place))
        watch = StackWatch(ground)
        try:
            with watch.on():
                for number, moment in enumerate(moments(told.seed, told.moments)):
                    print(survive(ground, f"m{number}", moment), flush=True)
                ground.stop()
        finally:
            ground.close()
    print(f"at most {watch.most} server on the home's file at once")
    return int(watch.most > 1)


if __name__ == "__main__":
    sys.exit(main())
