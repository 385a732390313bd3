"""
The mesh that is measured: its peers, the tasks handed to it, and the rows so far.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.result_rows import ResultRow
from testkit.networks import Net
from testkit.peers import Peer, equal, whole
from testkit.processes import events, rehearsal, wait_for

MESH_STEP_S = 0.1
LONG_S = 300.0


@dataclass
class MeshBench:
    """
    The mesh under test and what was measured of it.
    """

    net: Net
    peers: list[Peer]
    folder: Path
    dice: random.Random
    rows: list[ResultRow] = field(default_factory=list)
    submitted: int = 0

    def log(self, task: str) -> Path:
        return self.folder / f"{task}.jsonl"

    def submit(self, to: Peer, steps: int, step_s: float = MESH_STEP_S) -> str | None:
        """
        Hand in one rehearsal; returns its name once it is acknowledged.
        """
        self.submitted += 1
        task = f"t{self.submitted}"
        work = rehearsal("r", self.log(task), steps=steps, step_seconds=step_s)
        mission = {"id": task, "goal": "rehearse", "tasks": [work]}
        return task if to.ask("submit", mission=mission, copies=2) else None

    def at_work(self, count: int, steps: int) -> list[str]:
        """
        Hand in tasks and wait until each has gone a few steps.
        """
        found = [self.submit(self.dice.choice(self.peers), steps) for _ in range(count)]
        tasks = [each for each in found if each]
        for each in tasks:
            wait_for(lambda each=each: len(events(self.log(each), "step")) > 5, each)
        return tasks

    def owner(self, task: str) -> Peer:
        told = self.peers[0].ask("status", task=task)
        return next(each for each in self.peers if each.name == told["owner"])

    def done(self, tasks: list[str], by: list[Peer], limit_s: float = LONG_S) -> None:
        def settled() -> bool:
            return all(set(tasks) <= finished(each) for each in by)

        wait_for(settled, "all results", limit_s)

    def healthy(self) -> None:
        wait_for(lambda: whole(self.peers) and equal(self.peers), "a whole mesh", 120)

    def add(self, what: str, values: list[float], *more: Any) -> None:
        row = ResultRow(what, values, *more)
        self.rows.append(row)
        print(row, flush=True)


def finished(peer: Peer) -> set[str]:
    told = peer.ask("status") or []
    return {each["task"] for each in told if each["state"] == "completed"}
