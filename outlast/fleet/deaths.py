"""
What follows when a worker process is dead: the server is told of what it had in flight
and that it polls no more. So it is for the workers of another fleet of this home,
whose own parent is dead, too.
"""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from outlast.fleet.exit_report import ExitReporter
from outlast.fleet.exits import Exit
from outlast.fleet.orphans import watch_orphans
from outlast.fleet.process_kinds import (
    CRASH_SPANS_SUFFIX,
    RECORDER_SUFFIX,
    ProcessKind,
    crash_spans_path,
    recorder_path,
    worker_identity,
)
from outlast.fleet.process_slot import ProcessSlot
from outlast.telemetry import setup

logger = logging.getLogger("outlast.fleet")

# Reports that wait for an absent server do not hold a stopping parent for long.
FINAL_REPORT_LIMIT_S = 5.0

FLEET_LOST = "its fleet was lost"


class DeathReports:
    """
    The reports of the dead workers of the fleet in *home*.
    """

    def __init__(self, home: Path, reporter: ExitReporter) -> None:
        self.home = home
        self._reporter = reporter
        self._under_way: set[asyncio.Task[Any]] = set()
        # Recorders that are no lost fleet's: of workers that live, or are reported.
        self._ours: set[Path] = set()

    def expect(self, pid: int) -> None:
        """
        Report the death of our worker *pid* ourselves.
        """
        self._ours.add(recorder_path(self.home, pid))

    def report(self, slot: ProcessSlot, pid: int, ended: Exit) -> None:
        """
        Report that the process *pid*, which filled *slot*, has ended.
        """
        recorder = recorder_path(self.home, pid)
        if slot.done:  # too often to ask the server about every open mission
            task = self._start(self._reporter.report(recorder, ended))
        else:
            task = self._start(self._reporter.report_all(recorder, pid, ended))
        task.add_done_callback(lambda _: self._ours.discard(recorder))
        if not ended.drained:  # else it has signed off by itself
            logger.warning("worker.died %s %s: %s", slot.kind, pid, ended.cause)
            identity = worker_identity(pid, slot.kind)
            self._start(self._reporter.deregister_worker(identity, ended.cause))
            if slot.kind is ProcessKind.WORKFLOWS and not slot.died_before_polling:
                self._start(self._reporter.reset_sticky_queues())
        # After the report, which is waited for.
        asyncio.get_running_loop().call_soon(
            setup.export_crash_spans, crash_spans_path(self.home, pid), ended.cause
        )

    async def report_lost_fleets(self) -> None:
        """
        Report, until cancelled, what workers in our home had in flight whose own parent
        is dead.
        """
        await self._reporter.client()  # who has no server holds no lock
        for spans_file in (self.home / "run").glob(f"*{CRASH_SPANS_SUFFIX}"):
            if not spans_file.with_suffix(RECORDER_SUFFIX).exists():
                setup.export_crash_spans(spans_file, FLEET_LOST)
        async for lost in watch_orphans(self.home / "run", self._ours):
            self._ours.update(lost)
            self._start(self._report_lost_fleet(lost))

    async def _report_lost_fleet(self, lost: dict[Path, bool]) -> None:
        """
        Report for another fleet's dead workers, each drained or not. Which of them had
        workflows nobody knows any more.
        """
        if not all(lost.values()):
            # First: what is reported would wait for the dead one's queue.
            await self._reporter.reset_sticky_queues()
        for recorder in lost:
            spans_file = recorder.with_suffix(CRASH_SPANS_SUFFIX)
            setup.export_crash_spans(spans_file, FLEET_LOST)
        reports = (
            self._reporter.report_all(
                each, int(each.stem), Exit(FLEET_LOST, drained=drained)
            )
            for each, drained in lost.items()
        )
        await asyncio.gather(*reports)
        self._ours.difference_update(lost)

    async def finish(self) -> None:
        """
        Wait for the reports that are under way.
        """
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=FINAL_REPORT_LIMIT_S)

    def _start(self, report: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(report)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task
