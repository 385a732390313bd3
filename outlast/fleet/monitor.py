"""
The parent's checks of its workers: those that are as good as dead are killed.

The end of a process that is killed here is handled like any other death.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.client import Client

from outlast.contracts.errors import UnavailableError
from outlast.fleet.missed_polls import POLL_CHECK_S, MissedPolls, polling_identities
from outlast.fleet.oom import OomKills
from outlast.fleet.parent_heartbeats import ParentHeartbeats
from outlast.fleet.process_kinds import (
    Attribution,
    recorder_path,
    stack_path,
    worker_identity,
)
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_reader import count_in_flight, leaked_calls, read_header
from outlast.fleet.watchdog import (
    WATCHDOG_CHECK_S,
    KillReason,
    ProcessStats,
    has_runnable_thread,
    read_stats,
)
from outlast.fleet.worker_process import WorkerProcess

logger = logging.getLogger("outlast.fleet")

# How long a worker may take until its loop turns: where it was not forked it imports
# the agents first, which on a crowded machine has taken a minute.
FIRST_TICK_LIMIT_S = 120.0


class ProcessMonitor:
    """
    Checks the processes of *slots* again and again.

    :param kill_unresponsive: whether to kill the silent; memory over the cap always
        kills.
    """

    def __init__(
        self, slots: list[ProcessSlot], home: Path, kill_unresponsive: bool
    ) -> None:
        self._slots = slots
        self._home = home
        self._kills_unresponsive = kill_unresponsive
        self.watchdog_kills = 0
        self.oom_kills = OomKills()

    async def check(self, parent_heartbeats: ParentHeartbeats) -> None:
        """
        Kill what is silent or too large, replace what is worn; send *parent_heartbeats*
        for what is silent and may live.
        """
        while True:
            await asyncio.sleep(WATCHDOG_CHECK_S)
            self.oom_kills.update()
            for slot in self._slots:
                if slot.process is not None and slot.serving:
                    recorder = recorder_path(self._home, slot.process.pid)
                    self._check_slot(slot, slot.process, recorder)
                    silent_s = slot.watchdog.silence_s
                    parent_heartbeats.check(time.monotonic(), silent_s, recorder)

    def _check_slot(
        self, slot: ProcessSlot, process: WorkerProcess, recorder: Path
    ) -> None:
        now, header = time.monotonic(), read_header(recorder)
        slot.stats = read_stats(process.pid, header.ticked_at) if header else None
        slot.has_ticked = slot.has_ticked or header is not None
        if slot.killed_for:
            return
        if header is None or slot.stats is None:
            late = not slot.has_ticked and now - slot.spawned_at > FIRST_TICK_LIMIT_S
            if late and self._kills_unresponsive:
                since = f"no sign for {FIRST_TICK_LIMIT_S:g} s since it was started"
                self._kill(slot, process, since)
            return
        found = slot.watchdog.kill_reason(
            now, slot.stats, lambda: has_runnable_thread(process.pid)
        )
        if not slot.stats.stopped:
            stack = stack_path(self._home, process.pid)
            slot.blockage.check(process.pid, stack, slot.watchdog, recorder)
        if found and (self._kills_unresponsive or found.reason is KillReason.MEMORY):
            frozen = found.reason is KillReason.STOPPED
            blame = Attribution.OPEN if frozen else Attribution.OWN
            self._kill(slot, process, slot.blockage.explain(found), blame)
        elif slot.polling and not slot.draining.is_set():
            self._recycle_if_due(slot, slot.stats, header.leaked, recorder)

    def _recycle_if_due(
        self, slot: ProcessSlot, stats: ProcessStats, leaked: int, recorder: Path
    ) -> None:
        def idle() -> bool:
            return not count_in_flight(recorder)

        now = time.monotonic()
        if slot.watchdog.should_recycle(now, stats, idle):
            logger.info("worker.recycled %s %s: replaced", slot.kind, slot.pid)
            slot.draining.set()
        elif slot.leaks.should_recycle(now, leaked, idle):
            logger.warning(
                "worker.leaked %s %s: replaced, since what was ended still runs in it: "
                "%s; await something that can be cancelled, or ask ctx.cancelled",
                *(slot.kind, slot.pid),
                ", ".join(
                    f"{call.mission}/{call.task}" for call in leaked_calls(recorder)
                ),
            )
            slot.draining.set()

    async def kill_non_polling(self, client: Callable[[], Awaitable[Client]]) -> None:
        missed = MissedPolls()
        while self._kills_unresponsive:
            await asyncio.sleep(POLL_CHECK_S)
            slots = {
                worker_identity(slot.process.pid, slot.kind): slot
                for slot in self._slots
                if slot.process is not None and slot.polling and slot.polls
            }
            try:
                polling = await polling_identities(await client(), set(slots))
            except UnavailableError:
                continue  # the server is away, or lists no workers
            for each in missed.update(set(slots), polling):
                slot = slots[each]
                if slot.process is not None and slot.polling:
                    self._kill(slot, slot.process, "it lives but polls nothing")

    def _kill(
        self,
        slot: ProcessSlot,
        process: WorkerProcess,
        reason: str,
        blame: Attribution = Attribution.NONE,
    ) -> None:
        slot.killed_for, slot.attribution = reason, blame
        self.watchdog_kills += 1
        logger.warning("watchdog.killed %s %s: %s", slot.kind, process.pid, reason)
        process.kill()
