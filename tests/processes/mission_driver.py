"""
Missions of rehearsals under way on real fleets, and what can be seen of both.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from testkit.processes import FleetProcess, Home, events, mission, wait_for

STEP_S = 0.05


@dataclass
class Course:
    """
    A mission under way and what its rehearsals log.
    """

    home: Home
    name: str
    folder: Path
    starter: subprocess.Popen[str] = field(init=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def begin(self, scripts: dict[str, dict[str, Any]], role: str = "rehearse") -> None:
        tasks = [
            {
                "id": name,
                "role": role,
                "input": {"step_seconds": STEP_S, "log": str(self.log), **script},
            }
            for name, script in scripts.items()
        ]
        path = self.folder / f"{self.name}.yaml"
        limits = {"concurrency": len(tasks)}
        mission(path, tasks, id=self.name, limits=limits)
        self.starter = self.home.begin("run", str(path), "--json")

    def ends(self) -> int:
        """
        Wait for the report; returns the starter's exit code.
        """
        return self.starter.wait(timeout=45)

    @property
    def report(self) -> dict[str, Any]:
        assert self.starter.stdout is not None
        found: dict[str, Any] = json.load(self.starter.stdout)
        return found

    def of(self, task: str, *kinds: str) -> list[dict[str, Any]]:
        return [each for each in events(self.log, *kinds) if each["task"] == task]

    def past(self, step: int, task: str) -> dict[str, Any]:
        """
        Wait for a step past *step*.
        """
        found: dict[str, Any] = wait_for(
            lambda: next((s for s in self.of(task, "step") if s["step"] > step), None),
            f"a step of {task} past {step}",
        )
        return found

    def second(self, task: str) -> dict[str, Any]:
        """
        Wait for the start of the task's second attempt.
        """
        starts = wait_for(
            lambda: self.of(task, "start")[1:], f"a second attempt of {task}"
        )
        found: dict[str, Any] = starts[0]
        return found

    def story(self) -> dict[str, list[dict[str, Any]]]:
        """
        Ask the starter for the attempts of each task.
        """
        told = self.home.starter("explain", self.name, "--json")
        assert told.code == 0, told.err
        found: dict[str, list[dict[str, Any]]] = {}
        for each in told.json["attempts"]:
            found.setdefault(each["task"], []).append(each)
        return found

    def resumed_in_full(self, task: str) -> None:
        """
        Check that the second attempt went on from the very last completed step.
        """
        second = self.second(task)
        before = [s for s in self.of(task, "step") if s["attempt"] == 1]
        assert second["step"] >= max(each["step"] for each in before)
        steps = Counter(each["step"] for each in self.of(task, "step"))
        assert set(steps.values()) == {1}, "a completed step was repeated"

    def never_twice_at_once(self, task: str) -> None:
        """
        Check that no process works on once another one has started.
        """
        starts = self.of(task, "start")
        for earlier, later in pairwise(starts):
            zombie = [
                each
                for each in self.of(task, "step", "end")
                if each["pid"] == earlier["pid"] and each["at"] > later["at"]
            ]
            assert zombie == []

    def leave(self) -> None:
        """
        Follow it no longer.
        """
        self.starter.kill()
        self.starter.wait()

    def cancel(self) -> None:
        self.leave()
        ended = self.home.starter("cancel", self.name)
        assert ended.code == 0, ended


def endless(names: list[str]) -> dict[str, dict[str, Any]]:
    """
    More work than a test has time for, slow enough to leave the machine to fleets.
    """
    return {name: {"steps": 100_000, "step_seconds": 0.2} for name in names}


def noticed(course: Course) -> set[str]:
    """
    List what ended the attempts that were followed by another.
    """
    later = [each for told in course.story().values() for each in told[1:]]
    return {each["previous_failure"] for each in later}


def gone(pid: int) -> bool:
    """
    Say whether the process is dead; a zombie is.
    """
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    return True


def parent_of(pid: int) -> int:
    """
    Say who has started the process, or has inherited it.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def children(pid: int) -> list[int]:
    """
    List the processes that *pid* has started itself.
    """
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in tasks for child in each.read_text().split()]


def whole(fleet: FleetProcess) -> bool:
    return bool(fleet.health()["ready"])


def workers(fleet: FleetProcess) -> list[int]:
    return [each["pid"] for each in fleet.health()["processes"]]


@contextmanager
def ended(fleet: FleetProcess) -> Iterator[FleetProcess]:
    """
    A fleet that is gone after the test, whatever it was brought to.
    """
    try:
        yield fleet
    finally:
        fleet.process.kill()
        fleet.process.wait()
