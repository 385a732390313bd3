"""
How a fleet stops: first the processes that hand back what they have in flight, then the
one with the workflows, which dispatches it again.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

from outlast.fleet.process_kinds import ProcessKind, ProcessState, recorder_path
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_reader import count_in_flight
from outlast.fleet.worker_process import WorkerProcess

logger = logging.getLogger("outlast.fleet")

# What a process may take beyond its drain time before it is killed.
DRAIN_KILL_S = 4.0

# How long the process with the workflows waits for the others to hand back what they
# have, and then for the workflow tasks that dispatch it again: one that is lost with
# its process is seen by its timeout of 2 s only.
WORKFLOW_GRACE_S = 1.0
DISPATCH_CHECK_S = 0.5


class FleetDrain:
    """
    The end of the processes of *slots*, once it has begun.

    :param drain_s: how long short attempts may take to finish.
    """

    def __init__(self, slots: list[ProcessSlot], home: Path, drain_s: float) -> None:
        self._slots = slots
        self._home = home
        self._drain_s = drain_s
        self._started = asyncio.Event()
        self._force = asyncio.Event()
        self._last: asyncio.Future[None] | None = None

    @property
    def has_started(self) -> bool:
        return self._started.is_set()

    async def wait_until_draining(self, seconds: float) -> None:
        """
        Wait until it begins, *seconds* at most.
        """
        await _wait(self._started, seconds)

    def on_signal(self) -> None:
        """
        Begin; the second signal ends all processes at once.
        """
        if self.has_started:
            self._force.set()
        self.begin()

    def begin(self) -> None:
        if self.has_started:
            return
        self._started.set()
        redispatch = any(self._has_in_flight(slot) for slot in self._slots)
        for slot in self._slots:
            if slot.kind is not ProcessKind.WORKFLOWS:
                slot.draining.set()
        self._last = asyncio.ensure_future(self._drain_workflows(redispatch))

    async def drain(self, slot: ProcessSlot, process: WorkerProcess) -> None:
        """
        Ask *process* to drain once its *slot* says so, and kill it if it does not.
        """
        await slot.draining.wait()
        process.drain(by_signal=slot.state is ProcessState.STARTING)
        await _wait(self._force, self._drain_s + DRAIN_KILL_S)
        logger.warning("worker.killed %s: it did not drain", process.pid)
        process.kill()

    async def _drain_workflows(self, redispatch: bool) -> None:
        """
        Drain the process with the workflows when the others have handed back what they
        had: it dispatches that again sooner than one which must replay them.
        """
        others = [
            slot for slot in self._slots if slot.kind is not ProcessKind.WORKFLOWS
        ]
        ended = [asyncio.ensure_future(slot.ended.wait()) for slot in others]
        _, late = await asyncio.wait(ended, timeout=self._drain_s + WORKFLOW_GRACE_S)
        if redispatch and not late:
            await _wait(self._force, DISPATCH_CHECK_S)
        for slot in self._slots:
            slot.draining.set()

    def _has_in_flight(self, slot: ProcessSlot) -> bool:
        return bool(count_in_flight(recorder_path(self._home, slot.pid or 0)))


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), limit_s)
