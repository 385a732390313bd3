"""
The same fault on stock Temporal: no fleet, no ledger, a heartbeat timeout of 1 s.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.recovery_row import Row
from benchmarks.recovery_trials import STEP_S
from drills.real import ROOT, events, wait_for

# A frozen worker swallows one retry with each of its open polls, and after each the
# server waits twice as long.
LIMIT_S = 300.0


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
            LIMIT_S,
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
