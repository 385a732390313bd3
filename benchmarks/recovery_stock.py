"""
The same fault on stock Temporal: no fleet, no ledger, a heartbeat timeout of 1 s.
"""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from temporalio.client import Client

from benchmarks.recovery_row import RecoveryRow
from benchmarks.recovery_trials import TRIAL_STEP_S
from testkit.processes import events, next_event, wait_for
from testkit.stock_temporal import (
    HEARTBEAT_S,
    QUEUE,
    StockRehearsal,
    begin_stock,
)

# A frozen worker swallows one retry with each of its open polls, and after each the
# server waits twice as long. A dead one can hold up the next run's first task as well.
STOCK_TRIAL_LIMIT_S = 300.0


class StockTrials:
    """
    Stock Temporal on the same server.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def measure(self, trials: int, how: signal.Signals) -> RecoveryRow:
        """
        Kill or freeze the worker that has the activity in hand, in a run of its own
        each time: in one run the server would wait twice as long after each.
        """
        row = RecoveryRow(f"stock Temporal, heartbeat 1 s: {how.name}", None, None)
        for _ in range(2):
            self._start_worker()
        try:
            for trial in range(trials):
                log = self.folder / f"stock-{how.name}-{trial}.jsonl"
                with self._running(log):
                    self._lose(row, log, how)
        finally:
            for process in self.workers.values():
                process.kill()
                process.wait()
            self.workers.clear()
        return row

    def _lose(self, row: RecoveryRow, log: Path, how: signal.Signals) -> None:
        wait_for(
            lambda: len(events(log, "step")) > 2, "stock to work", STOCK_TRIAL_LIMIT_S
        )
        time.sleep(random.uniform(0.0, HEARTBEAT_S))  # heartbeats have a rhythm
        pid = events(log, "step")[-1]["pid"]
        began = time.time()
        os.kill(pid, how)
        again = next_event(log, "start", began, row.fault, limit_s=STOCK_TRIAL_LIMIT_S)
        done = [
            each["step"] for each in events(log, "step") if each["at"] <= again["at"]
        ]
        row.seconds.append(again["at"] - began)
        row.lost += max(0, max(done) - again["step"])
        victim = self.workers.pop(pid)
        victim.kill()
        victim.wait()
        self._start_worker()

    @contextmanager
    def _running(self, log: Path) -> Iterator[None]:
        """
        Have one activity run that ends when we do.
        """
        script = {"steps": 100_000, "step_seconds": TRIAL_STEP_S, "log": str(log)}

        async def start() -> None:
            client = await Client.connect(self.address)
            await client.start_workflow(
                StockRehearsal.run, script, id=log.stem, task_queue=QUEUE
            )

        async def end() -> None:
            client = await Client.connect(self.address)
            await client.get_workflow_handle(log.stem).terminate()

        asyncio.run(start())
        try:
            yield
        finally:
            asyncio.run(end())

    def _start_worker(self) -> None:
        process = begin_stock("worker", self.address)
        self.workers[process.pid] = process
        time.sleep(2.5)  # it has no way to say that it polls
