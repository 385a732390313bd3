"""
How long until work goes on after each fault, and from which step.

    python -m benchmarks.recovery [--trials 100] [--long-trials 20] [--stock-timers]
                                  [--only kill fleet ...]

Every trial is a real fault on real processes; a figure is from the fault to the first
line of the next attempt, and `lost` counts completed steps that were done again. The
last rows are stock Temporal with a heartbeat timeout of 1 s, in the same run.
Exit code 1 says that a bound was missed.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from drills.real import ROOT, Fleet, Home, events, mission, wait_for
from outlast.runtime import embedded
from outlast.runtime.embedded import Server, choose_ports

STEP_S = 0.02
CHAIN = 12  # tasks in a row, to watch a workflow at work
STEPS = 100_000  # more than any trial needs; the mission is cancelled at the end
SETTLE_S = (0.1, 0.4)  # between trials, at random: a fault hits any moment of a step


@dataclass
class Row:
    """
    One fault and what was measured.
    """

    fault: str
    bound_median_s: float | None
    bound_worst_s: float | None
    seconds: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def held(self) -> bool:
        ordered = sorted(self.seconds)
        median = statistics.median(ordered)
        p95 = ordered[int(len(ordered) * 0.95) - 1]
        return (self.bound_median_s is None or median <= self.bound_median_s) and (
            self.bound_worst_s is None or p95 <= self.bound_worst_s
        )

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p95 = ordered[max(0, int(len(ordered) * 0.95) - 1)]
        bounds = "/".join(
            "-" if bound is None else f"{bound:g}"
            for bound in (self.bound_median_s, self.bound_worst_s)
        )
        verdict = "ok" if self.held else "MISSED"
        return (
            f"{self.fault:<44}{len(ordered):>5}{statistics.median(ordered):>9.3f}"
            f"{p95:>9.3f}{ordered[-1]:>9.3f}{self.lost:>6}{bounds:>12}  {verdict}"
        )


class Trials:
    """
    A home with a server and a fleet, to break again and again.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.dice = random.Random(3)
        self.count = 0

    def kill(self, trials: int, at_once: int = 1) -> Row:
        """
        SIGKILL the process that has a task in hand, while *at_once* tasks run.
        """
        many = f", {at_once} tasks running" if at_once > 1 else ""
        row = Row(f"SIGKILL of an agent process{many}", 0.06, 0.2)
        with self.running(at_once) as log:
            for _ in range(trials):
                self._once(row, log, lambda pid: os.kill(pid, signal.SIGKILL))
        return row

    def freeze(self, trials: int) -> Row:
        """
        SIGSTOP.
        """
        row = Row("SIGSTOP of an agent process", None, 1.5)
        with self.running(1) as log:
            for _ in range(trials):
                self._once(row, log, lambda pid: os.kill(pid, signal.SIGSTOP))
        return row

    def misbehave(self, how: str, trials: int, bound_s: float) -> Row:
        """
        Let the agent's own code be the fault.
        """
        row = Row(f"agent code: {how}", None, bound_s)
        for _ in range(trials):
            script = {
                "steps": 8,
                "step_seconds": STEP_S,
                "misbehave": {"attempt": 1, "step": 5, "how": how},
            }
            log = self._begin([script])
            second = wait_for(lambda log=log: _second(log), f"recovery from {how}")
            fault_at = max(
                each["at"] for each in events(log, "step") if each["attempt"] == 1
            )
            row.seconds.append(second["at"] - fault_at - STEP_S)
            row.lost += 4 - second["step"]
            wait_for(lambda log=log: events(log, "end"), "its end")
        return row

    def lose_fleet(self, trials: int) -> Row:
        """
        SIGKILL a whole fleet, parent first, another fleet alive.
        """
        bound_s = 2.0 if embedded.DYNAMIC_CONFIG else 3.0  # stock timers fire 1 s late
        row = Row("SIGKILL of a whole fleet, another alive", None, bound_s)
        with self.running(1) as log:
            for _ in range(trials):
                if len(self.home.fleets) < 2:
                    self.home.fleet(processes=3)
                pid = _holder(log)
                victim = next(
                    each for each in self.home.fleets if pid in each.pids("agents")
                )
                self._once(row, log, partial(_slay_of, victim))
                self.home.fleets.remove(victim)
        return row

    def lose_workflows(self, trials: int, step_s: float, kind: str) -> Row:
        """
        SIGKILL the workflow process while a chain of tasks of *step_s* runs; from the
        kill, or from the end of the task under way, to the first line of the next.
        """
        bound = 2.5 if step_s == 0 else 0.6
        row = Row(f"SIGKILL of a workflow process, {kind}", None, bound)
        for _ in range(trials):
            log = self._chain(step_s)
            wait_for(partial(_ended, log, 3), "a chain")
            time.sleep(step_s / 2)
            (pid,) = self.home.fleets[0].pids("workflows")
            began = time.time()
            os.kill(pid, signal.SIGKILL)
            row.seconds.append(self._next_start(log, began, step_s))
            wait_for(
                lambda log=log: len(events(log, "end")) >= CHAIN, "the chain's end"
            )
        return row

    def _next_start(self, log: Path, began: float, step_s: float) -> float:
        """
        Time the first task that starts after the kill and, for an idle workflow, after
        the end of the one that was under way.
        """
        since = began
        if step_s:
            since = wait_for(
                lambda: [e["at"] for e in events(log, "end") if e["at"] > began],
                "the task under way to end",
            )[0]
        starts = wait_for(
            lambda: [e["at"] for e in events(log, "start") if e["at"] > since],
            "the next task",
        )
        return float(starts[0] - since)

    def _chain(self, step_s: float) -> Path:
        self.count += 1
        name = f"trial-{self.count}"
        log = self.folder / f"{name}.jsonl"
        script = {"steps": 1, "step_seconds": step_s, "log": str(log)}
        tasks = [
            {
                "id": f"t{at}",
                "role": "rehearse",
                "input": script,
                "needs": [f"t{at - 1}"] if at else [],
            }
            for at in range(CHAIN)
        ]
        limits = {"depth": CHAIN}
        path = mission(self.folder / f"{name}.yaml", tasks, id=name, limits=limits)
        follower = self.home.begin("run", path, "--json")
        wait_for(lambda: events(log, "start"), "the chain to start")
        follower.kill()
        follower.wait()
        return log

    def drain(self, trials: int) -> Row:
        """
        SIGTERM a fleet with 20 attempts in hand, another fleet alive; from the signal
        to each attempt's first line elsewhere.
        """
        row = Row("SIGTERM of a fleet, 20 attempts in hand", 0.3, None)
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
                row.seconds += [at - began for at in moved]
                victim.process.wait(timeout=30)
                self.home.fleets = [spare]
        return row

    @contextmanager
    def running(self, tasks: int) -> Iterator[Path]:
        """
        Have endless tasks under way.
        """
        script = {"steps": STEPS, "step_seconds": STEP_S}
        log = self._begin([script] * tasks)
        try:
            yield log
        finally:
            name = f"trial-{self.count}"
            ended = self.home.starter("cancel", name)
            assert ended.code == 0, ended

    def _begin(self, scripts: list[dict[str, Any]]) -> Path:
        self.count += 1
        name = f"trial-{self.count}"
        log = self.folder / f"{name}.jsonl"
        tasks = [
            {"id": f"t{at}", "role": "rehearse", "input": {**script, "log": str(log)}}
            for at, script in enumerate(scripts)
        ]
        limits = {"concurrency": len(tasks)}
        path = mission(self.folder / f"{name}.yaml", tasks, id=name, limits=limits)
        follower = self.home.begin("run", path, "--json")
        wait_for(lambda: len(events(log, "start")) >= len(scripts), "all to start")
        follower.kill()  # it looks four times a second; the mission goes on without it
        follower.wait()
        return log

    def _once(self, row: Row, log: Path, fault: Callable[[int], None]) -> None:
        """
        Inject *fault* into the holder of a task and time that task's next attempt.
        """
        time.sleep(self.dice.uniform(*SETTLE_S))
        step = events(log, "step")[-1]
        began = time.time()
        fault(step["pid"])
        again = wait_for(
            lambda: [
                each
                for each in events(log, "start")
                if each["at"] > began and each["task"] == step["task"]
            ],
            row.fault,
        )[0]
        steps = [
            each["step"]
            for each in events(log, "step")
            if each["task"] == step["task"] and each["at"] <= again["at"]
        ]
        row.seconds.append(again["at"] - began)
        row.lost += max(0, max(steps) - again["step"])
        wait_for(
            lambda: [
                each
                for each in events(log, "step")
                if each["at"] > again["at"] and each["task"] == step["task"]
            ],
            "a new step",
        )


class Stock:
    """
    Stock Temporal on the same server.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.log = folder / "stock.jsonl"
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def measure(self, trials: int, how: signal.Signals) -> Row:
        """
        Kill or freeze the worker that has the activity in hand.
        """
        row = Row(f"stock Temporal, heartbeat 1 s: {how.name}", None, None)
        self.log = self.log.with_name(f"stock-{how.name}.jsonl")
        for _ in range(2):
            self._start()
        script = {"steps": 100_000, "step_seconds": STEP_S, "log": str(self.log)}
        run = self._python("run", self.address, json.dumps(script))
        wait_for(lambda: events(self.log, "step"), "stock Temporal to start")
        for _ in range(trials):
            self._once(row, how)
        for process in [run, *self.workers.values()]:
            process.kill()
            process.wait()
        self.workers.clear()
        return row

    def _once(self, row: Row, how: signal.Signals) -> None:
        steps = reversed(events(self.log, "step"))
        # A worker that was frozen may have had the last word before it was killed.
        step = next(each for each in steps if each["pid"] in self.workers)
        began = time.time()
        os.kill(step["pid"], how)
        again = wait_for(
            lambda: [each for each in events(self.log, "start") if each["at"] > began],
            row.fault,
        )[0]
        done = [
            each["step"]
            for each in events(self.log, "step")
            if each["at"] <= again["at"]
        ]
        row.seconds.append(again["at"] - began)
        row.lost += max(0, max(done) - again["step"])
        victim = self.workers.pop(step["pid"])
        victim.kill()
        victim.wait()
        self._start()
        wait_for(lambda: events(self.log, "step")[-1]["at"] > again["at"], "a new step")

    def _start(self) -> None:
        process = self._python("worker", self.address)
        self.workers[process.pid] = process
        time.sleep(2.5)  # it has no way to say that it polls

    def _python(self, *args: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "drills.stock", *args]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def _second(log: Path) -> dict[str, Any] | None:
    return next((each for each in events(log, "start") if each["attempt"] > 1), None)


def _ended(log: Path, tasks: int) -> bool:
    return len(events(log, "end")) >= tasks


def _moved(log: Path, began: float, tasks: set[str]) -> list[float] | None:
    """
    Find when each of *tasks* started again; None until all have.
    """
    again = {
        each["task"]: each["at"]
        for each in events(log, "start")
        if each["at"] > began and each["task"] in tasks
    }
    return list(again.values()) if tasks and again.keys() == tasks else None


def _holder(log: Path) -> int:
    return int(events(log, "step")[-1]["pid"])


def _slay_of(fleet: Fleet, _: int) -> None:
    pids = [each["pid"] for each in fleet.health()["processes"]]
    fleet.process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    fleet.process.wait()


def main() -> int:
    """
    Run all trials and print the table.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--long-trials", type=int, default=20)
    parser.add_argument("--stock-timers", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="kill kill-6 fleet ...")
    args = parser.parse_args()
    if args.stock_timers:
        embedded.DYNAMIC_CONFIG = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        home = Home(folder, Server(folder, *choose_ports(None, None)))
        home.extra |= {"OUTLAST_MEMORY_MB": "512", "OUTLAST_SLOTS": "8"}
        asyncio.run(home.server.start())
        try:
            rows = _measure(home, folder, args.trials, args.long_trials, args.only)
        finally:
            home.close()
    timers = "stock timers" if args.stock_timers else "timers as shipped"
    print(f"\nseconds from the fault to the next attempt's first line ({timers})")
    print(
        f"{'fault':<44}{'n':>5}{'median':>9}{'p95':>9}{'worst':>9}{'lost':>6}"
        f"{'bounds':>12}"
    )
    for row in rows:
        print(row)
    return int(not all(row.held for row in rows))


def _measure(
    home: Home, folder: Path, trials: int, long_trials: int, only: list[str]
) -> list[Row]:
    home.fleet(processes=3)
    on = Trials(home, folder)
    plan: dict[str, Callable[[], Row]] = {
        "kill": lambda: on.kill(trials),
        "kill-3": lambda: on.kill(trials, at_once=3),
        "kill-6": lambda: on.kill(trials, at_once=6),
        "freeze": lambda: on.freeze(long_trials),
        "segfault": lambda: on.misbehave("segfault", long_trials, 0.25),
        "block": lambda: on.misbehave("block", long_trials, 1.5),
        "burn": lambda: on.misbehave("burn", long_trials, 5.5),
        "memory": lambda: on.misbehave("memory", long_trials, 1.5),
        "workflows-idle": lambda: on.lose_workflows(long_trials, 0.5, "idle"),
        "workflows": lambda: on.lose_workflows(long_trials, 0.0, "at work"),
        "fleet": lambda: on.lose_fleet(long_trials),
        "drain": lambda: on.drain(max(1, long_trials // 5)),
    }
    stock = Stock(home.server.address, folder)
    for how in (signal.SIGKILL, signal.SIGSTOP):
        few = max(3, long_trials // 4)
        plan[f"stock-{how.name}"] = partial(stock.measure, few, how)
    rows = []
    for name, step in plan.items():
        if only and name not in only:
            continue
        rows.append(step())
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
