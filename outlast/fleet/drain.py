"""
How a fleet stops: first those that hand on what they have, then the one process that
dispatches it again.
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

# What a child may take beyond its drain time before it is killed.
DRAIN_KILL_S = 4.0

# How long the process with the workflows stays for the others to hand on what they
# have, and then for the workflow tasks that dispatch it again: one that is lost with
# its process is seen by its timeout of 2 s only.
WORKFLOW_GRACE_S = 1.0
DISPATCH_CHECK_S = 0.5


class FleetDrain:
    """
    The end of *children*, once it has begun.

    :param drain_s: how long short attempts may take to finish.
    """

    def __init__(self, children: list[ProcessSlot], home: Path, drain_s: float) -> None:
        self._slots = children
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
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._started.wait(), seconds)

    def on_signal(self) -> None:
        """
        Begin, and the second time end at once: whoever asks twice means now.
        """
        if self.has_started:
            self._force.set()
        self.begin()

    def begin(self) -> None:
        """
        Drain all children.
        """
        if self.has_started:
            return
        self._started.set()
        hand_on = any(self._has_in_flight(child) for child in self._slots)
        for child in self._slots:
            if child.kind is not ProcessKind.WORKFLOWS:
                child.draining.set()
        self._last = asyncio.ensure_future(self._drain_workflows(hand_on))

    async def drain(self, slot: ProcessSlot, process: WorkerProcess) -> None:
        """
        Ask the child's process to end once it must leave, and kill it if it does not.
        """
        await slot.draining.wait()
        process.drain(by_signal=slot.state is ProcessState.STARTING)
        with contextlib.suppress(TimeoutError):
            limit_s = self._drain_s + DRAIN_KILL_S
            await asyncio.wait_for(self._force.wait(), limit_s)
        logger.warning("worker.killed %s: it did not drain", process.pid)
        process.kill()

    async def _drain_workflows(self, hand_on: bool) -> None:
        """
        Drain the process with the workflows when the others have handed on what they
        had: it dispatches that again sooner than one which must replay them.
        """
        others = [
            each for each in self._slots if each.kind is not ProcessKind.WORKFLOWS
        ]
        ended = [asyncio.ensure_future(each.ended.wait()) for each in others]
        _, late = await asyncio.wait(ended, timeout=self._drain_s + WORKFLOW_GRACE_S)
        if hand_on and not late:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._force.wait(), DISPATCH_CHECK_S)
        for child in self._slots:
            child.draining.set()

    def _has_in_flight(self, slot: ProcessSlot) -> bool:
        return bool(count_in_flight(recorder_path(self._home, slot.pid or 0)))
