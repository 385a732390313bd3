"""
How a fleet stops: first those that hand on what they have, then the one process that
dispatches it again.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

from outlast.fleet.monitor import Child
from outlast.fleet.process_kinds import Kind, recorder_of
from outlast.fleet.recorder_reader import count_in_hand
from outlast.fleet.worker_process import Life

logger = logging.getLogger("outlast.fleet")

# What a child may take beyond its drain time before it is killed.
KILL_AFTER_S = 4.0

# How long the process with the workflows stays for the others to hand on what they
# have, and then for the workflow tasks that dispatch it again: one that is lost with
# its process is seen by its timeout of 2 s only.
HOLD_ON_S = 1.0
DISPATCHED_S = 0.5


class Stopping:
    """
    The end of *children*, once it has begun.

    :param drain_s: how long short attempts may take to finish.
    """

    def __init__(self, children: list[Child], home: Path, drain_s: float) -> None:
        self._children = children
        self._home = home
        self._drain_s = drain_s
        self._begun = asyncio.Event()
        self._at_once = asyncio.Event()
        self._last: asyncio.Future[None] | None = None

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    async def sooner_than(self, seconds: float) -> None:
        """
        Wait until it begins, *seconds* at most.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), seconds)

    def signalled(self) -> None:
        """
        Begin, and the second time end at once: whoever asks twice means now.
        """
        if self.begun:
            self._at_once.set()
        self.begin()

    def begin(self) -> None:
        """
        Drain all children.
        """
        if self.begun:
            return
        self._begun.set()
        hand_on = any(self._has_in_hand(child) for child in self._children)
        for child in self._children:
            if child.kind is not Kind.WORKFLOWS:
                child.leave.set()
        self._last = asyncio.ensure_future(self._let_workflows_go(hand_on))

    async def drain(self, child: Child, life: Life) -> None:
        """
        Ask the child's process to end once it must leave, and kill it if it does not.
        """
        await child.leave.wait()
        life.drain(by_signal=child.state == "starting")
        with contextlib.suppress(TimeoutError):
            limit_s = self._drain_s + KILL_AFTER_S
            await asyncio.wait_for(self._at_once.wait(), limit_s)
        logger.warning("child.killed %s: it did not drain", life.pid)
        life.kill()

    async def _let_workflows_go(self, hand_on: bool) -> None:
        """
        Drain the process with the workflows when the others have handed on what they
        had: it dispatches that again sooner than one which must replay them.
        """
        others = [each for each in self._children if each.kind is not Kind.WORKFLOWS]
        ended = [asyncio.ensure_future(each.ended.wait()) for each in others]
        _, late = await asyncio.wait(ended, timeout=self._drain_s + HOLD_ON_S)
        if hand_on and not late:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), DISPATCHED_S)
        for child in self._children:
            child.leave.set()

    def _has_in_hand(self, child: Child) -> bool:
        return bool(count_in_hand(recorder_of(self._home, child.pid or 0)))
