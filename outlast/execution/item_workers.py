"""
The workers of a lease: each takes one item after another.

When all of them wait for an item that takes its time another worker is added, up to a
few: agents that wait for a service get company, and an item that hangs holds nobody
up.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from outlast.agents.context import Context
from outlast.contracts.errors import StalledError
from outlast.contracts.retries import Policy
from outlast.execution.eager import EagerStarter

MAX_ITEM_WORKERS = 8
ADD_WORKER_AFTER_S = 0.2

# An item that hangs among items which take a moment need not use up the stall_s of its
# policy, which is made for the slow: the mean time of an item times this much, but
# never less than the floor. It gets one more chance unless it has failed before: what
# hangs must not begin anew with every lease that dies beside an item that kills.
# An agent that declares a stall_s of its own keeps it.
STALL_FACTOR = 100.0
STALL_FLOOR_S = 3.0
MAX_STALLS = 2  # failures and deaths of an item, the last a hang, that are enough


@dataclass(slots=True)
class ItemWorker:
    """
    One item after another, or a group of them for an agent that takes many.
    """

    ctx: Context | None = None  # of the item whose agent is at work
    since: float = field(default_factory=time.monotonic)  # at this item
    starter: EagerStarter = field(default_factory=EagerStarter)

    def end_stalled(self, now: float, stall_timeout_s: float) -> None:
        """
        End the agent's call if it has made no progress for longer than
        *stall_timeout_s*.
        """
        if self.ctx is None:
            return
        if now - max(self.since, self.ctx.progressed_at) > stall_timeout_s:
            waited_s = round(now - self.since, 1)
            stalled = StalledError.after(waited_s, self.ctx.waits_at())
            self.ctx.gate.end_by(stalled, at_once=True)


class ItemWorkerPool:
    """
    All workers of a lease, each of which runs *work* until there are no items left.

    :param most: workers at a time.
    """

    def __init__(
        self,
        work: Callable[[ItemWorker], Coroutine[Any, Any, None]],
        most: int = MAX_ITEM_WORKERS,
    ) -> None:
        self._work = work
        self._max_workers = most
        self._workers: dict[asyncio.Task[None], ItemWorker] = {}
        self._closing = False

    async def run(self) -> None:
        """
        Start the first worker and wait for the end of all.
        """
        self._add()
        while self._workers:
            done, _ = await asyncio.wait(
                self._workers, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                del self._workers[task]
                task.result()

    def tick(self, stall_timeout_s: float, more: bool) -> None:
        """
        End what stalls, and add a worker where all wait and there are *more* items.
        """
        now = time.monotonic()
        for item_worker in self._workers.values():
            item_worker.end_stalled(now, stall_timeout_s)
        room = len(self._workers) < self._max_workers and not self._closing
        if self.all_blocked and room and more:
            self._add()

    def restart_clocks(self) -> None:
        """
        Take no item to stall before now: the store that they use is away.
        """
        for item_worker in self._workers.values():
            if item_worker.ctx is not None:
                item_worker.ctx.progressed_at = time.monotonic()

    @property
    def all_blocked(self) -> bool:
        since = time.monotonic() - ADD_WORKER_AFTER_S
        return all(each.since < since for each in self._workers.values())

    async def close(self) -> None:
        """
        End all workers and wait for them, also when cancelled meanwhile: an act under
        way is let finish, and left behind unsure it would park its item.
        """
        self._closing = True
        ending = set(self._workers)
        for task in ending:
            task.cancel()
        while left := {task for task in ending if not task.done()}:
            # Each ends within the moment that an agent is given to end.
            with suppress(asyncio.CancelledError):
                await asyncio.wait(left)
        for task in ending:
            if not task.cancelled():
                task.exception()  # the error that ends the lease came before it

    def _add(self) -> None:
        item_worker = ItemWorker()
        task = asyncio.ensure_future(self._work(item_worker))
        task.add_done_callback(lambda _: item_worker.starter.close())
        self._workers[task] = item_worker


def raise_if_cancelled() -> None:
    """
    End here if the current task was cancelled: an item that had just ended is kept.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def stall_timeout_s(declared_s: float, mean_item_s: float) -> float:
    """
    Say for how long an item may show no progress, where its policy has *declared_s*
    and an item takes *mean_item_s*, 0 when that is unknown.
    """
    if declared_s != Policy().stall_s or mean_item_s == 0:
        return declared_s
    return min(declared_s, max(STALL_FLOOR_S, STALL_FACTOR * mean_item_s))
