"""
Faults on real processes of a fleet, and how long until work goes on.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType

from benchmarks.recovery_row import AttemptStartLine, RecoveryRow
from outlast.dev import server_command
from outlast.fleet.process_kinds import recorder_path
from outlast.temporal.connect import connect
from testkit.processes import (
    FleetProcess,
    Home,
    events,
    mission,
    next_event,
    rehearsal,
    wait_for,
)

TRIAL_STEP_S = 0.02
CHAIN = 12  # tasks in a row, to watch a workflow at work
TRIAL_STEPS = 100_000  # more than any trial needs; the mission is cancelled at the end
# Between trials, at random: a fault hits any moment of a step.
TRIAL_SETTLE_S = 0.1, 0.4


class RecoveryTrials:
    """
    A home with a server and a fleet, to break again and again.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.dice = random.Random(3)
        self.count = 0

    def kill(self, trials: int, at_once: int = 1) -> RecoveryRow:
        many = f", {at_once} tasks running" if at_once > 1 else ""
        row = RecoveryRow(f"SIGKILL of an agent process{many}", 0.06, 0.2)
        with self.running(at_once) as log:
            for _ in range(trials):
                self._once(row, log, lambda pid: os.kill(pid, signal.SIGKILL))
        return self._explained(row)

    def freeze(self, trials: int) -> RecoveryRow:
        row = RecoveryRow("SIGSTOP of an agent process", None, 1.5)
        with self.running(1) as log:
            for _ in range(trials):
                self._once(row, log, lambda pid: os.kill(pid, signal.SIGSTOP))
        return self._explained(row)

    def misbehave(self, how: str, trials: int, bound_s: float) -> RecoveryRow:
        """
        Let the agent's own code be the fault.
        """
        row = RecoveryRow(f"agent code: {how}", None, bound_s)
        for _ in range(trials):
            script = {
                "steps": 8,
                "step_seconds": TRIAL_STEP_S,
                "misbehave": {"attempt": 1, "step": 5, "how": how},
            }
            log = self._begin([script])
            second = wait_for(lambda log=log: _second(log), f"recovery from {how}")
            fault_at = max(
                each["at"] for each in events(log, "step") if each["attempt"] == 1
            )
            row.add(
                second["at"] - fault_at - TRIAL_STEP_S, AttemptStartLine.of(log, second)
            )
            row.lost += 4 - second["step"]
            wait_for(lambda log=log: events(log, "end"), "its end")
        return self._explained(row)

    def lose_fleet(self, trials: int, host_too: bool) -> RecoveryRow:
        """
        SIGKILL a whole fleet, parent first, another fleet alive: in its home, or on
        another host, which cannot read its flight recorders.
        """
        late_s = (
            0.0 if server_command.DYNAMIC_CONFIG else 1.0
        )  # what stock timers may be
        bound_s = 2.0 + late_s if host_too else 1.5
        where = "on another host" if host_too else "beside it"
        row = RecoveryRow(f"SIGKILL of a whole fleet, another {where}", None, bound_s)
        with self.running(1) as log:
            for _ in range(trials):
                if len(self.home.fleets) < 2:
                    self.home.fleet(processes=3)
                pid = _holder(log)
                victim = next(
                    each for each in self.home.fleets if pid in each.pids("agents")
                )
                self._once(row, log, partial(self._slay, victim, host_too))
                self.home.fleets.remove(victim)
        return self._explained(row)

    def lose_workflows(self, trials: int, step_s: float, kind: str) -> RecoveryRow:
        """
        SIGKILL the workflow process while a chain of tasks of *step_s* runs; from the
        kill, or from the end of the task under way, to the first line of the next.
        """
        bound = 2.5 if step_s == 0 else 0.6
        row = RecoveryRow(f"SIGKILL of a workflow process, {kind}", None, bound)
        for _ in range(trials):
            script = {"steps": 1, "step_seconds": step_s}
            log = self._begin([script] * CHAIN, chained=True)
            wait_for(partial(_ended, log, 3), "a chain")
            time.sleep(step_s / 2)
            (pid,) = self.home.fleets[0].pids("workflows")
            began = time.time()
            os.kill(pid, signal.SIGKILL)
            start, since = self._next_start(log, began, step_s)
            row.add(start["at"] - since, AttemptStartLine.of(log, start))
            wait_for(
                lambda log=log: len(events(log, "end")) >= CHAIN, "the chain's end"
            )
        assert row.worst is not None
        row.cause = asyncio.run(self._waited_for(row.worst.mission))
        return row

    async def _waited_for(self, mission: str) -> str:
        client = await connect(self.home.server.address)
        told = await client.get_workflow_handle(mission).fetch_history()
        late = EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT
        timed_out = any(each.event_type == late for each in told.events)
        return "a workflow task's timeout" if timed_out else "freed by the parent"

    def _explained(self, row: RecoveryRow) -> RecoveryRow:
        assert row.worst is not None
        told = self.home.starter("explain", row.worst.mission, "--json")
        row.cause = next(
            str(each["previous_failure"])
            for each in told.json["attempts"]
            if (each["task"], each["attempt"]) == (row.worst.task, row.worst.attempt)
        )
        return row

    def _next_start(
        self, log: Path, began: float, step_s: float
    ) -> tuple[dict[str, Any], float]:
        """
        Find the first task that starts after the kill and, for an idle workflow, after
        the end of the one that was under way; and since when that was waited for.
        """
        since = began
        if step_s:
            since = next_event(log, "end", began, "the task under way to end")["at"]
        return next_event(log, "start", since, "the next task"), since

    def drain(self, trials: int) -> RecoveryRow:
        """
        SIGTERM a fleet with 20 attempts in hand, another fleet alive; from the signal
        to each attempt's first line elsewhere.
        """
        row = RecoveryRow("SIGTERM of a fleet, 20 attempts in hand", 0.3, None)
        for _ in range(trials):
            with self.running(20) as log:
                victim, spare = self.home.fleets[0], self.home.fleet(processes=3)
                began = time.time()
                victim.process.terminate()
                theirs = {each["pid"] for each in victim.health()["processes"]}
                held = {
                    each["task"]: each["pid"]
                    for each in events(log, "start")
                    if each["at"] < began
                }
                moving = {task for task, pid in held.items() if pid in theirs}
                moved = wait_for(partial(_moved, log, began, moving), row.fault)
                for each in moved:
                    row.add(each["at"] - began, AttemptStartLine.of(log, each))
                victim.process.wait(timeout=30)
                self.home.fleets = [spare]
        return self._explained(row)

    @contextmanager
    def running(self, tasks: int) -> Iterator[Path]:
        script = {"steps": TRIAL_STEPS, "step_seconds": TRIAL_STEP_S}
        log = self._begin([script] * tasks)
        try:
            yield log
        finally:
            name = f"trial-{self.count}"
            ended = self.home.starter("cancel", name)
            assert ended.code == 0, ended

    def _begin(self, scripts: list[dict[str, Any]], chained: bool = False) -> Path:
        """
        Start a mission of a task for each of *scripts*, all at once or each after the
        one before, and wait until what can start has started.
        """
        self.count += 1
        name = f"trial-{self.count}"
        log = self.folder / f"{name}.jsonl"
        tasks = [rehearsal(f"t{at}", log, **each) for at, each in enumerate(scripts)]
        if chained:
            for before, task in pairwise(tasks):
                task["needs"] = [before["id"]]
        limits = {"depth" if chained else "concurrency": len(tasks)}
        path = mission(self.folder / f"{name}.yaml", tasks, id=name, limits=limits)
        follower = self.home.begin("run", path, "--json")
        wanted = 1 if chained else len(scripts)
        wait_for(lambda: len(events(log, "start")) >= wanted, "all to start")
        follower.kill()  # it looks four times a second; the mission goes on without it
        follower.wait()
        return log

    def _slay(self, fleet: FleetProcess, host_too: bool, _: int) -> None:
        pids = [each["pid"] for each in fleet.health()["processes"]]
        fleet.process.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if host_too:
            for pid in pids:
                recorder_path(self.home.path, pid).unlink()
        fleet.process.wait()

    def _once(self, row: RecoveryRow, log: Path, fault: Callable[[int], None]) -> None:
        """
        Inject *fault* into the holder of a task and time that task's next attempt.
        """
        time.sleep(self.dice.uniform(*TRIAL_SETTLE_S))
        step = events(log, "step")[-1]
        began = time.time()
        fault(step["pid"])
        again = next_event(log, "start", began, row.fault, step["task"])
        steps = [
            each["step"]
            for each in events(log, "step")
            if each["task"] == step["task"] and each["at"] <= again["at"]
        ]
        row.add(again["at"] - began, AttemptStartLine.of(log, again))
        row.lost += max(0, max(steps) - again["step"])
        next_event(log, "step", again["at"], "a new step", step["task"])


def _second(log: Path) -> dict[str, Any] | None:
    return next((each for each in events(log, "start") if each["attempt"] > 1), None)


def _ended(log: Path, tasks: int) -> bool:
    return len(events(log, "end")) >= tasks


def _moved(log: Path, began: float, tasks: set[str]) -> list[dict[str, Any]] | None:
    """
    Find where each of *tasks* started again; None until all have.
    """
    again = {
        each["task"]: each
        for each in events(log, "start")
        if each["at"] > began and each["task"] in tasks
    }
    return list(again.values()) if tasks and again.keys() == tasks else None


def _holder(log: Path) -> int:
    return int(events(log, "step")[-1]["pid"])
