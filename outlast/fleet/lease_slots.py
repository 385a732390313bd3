"""
Room for leases: one that only waits for its last items leaves its place to another.

Without that an item that hangs, or one that takes a minute among items that take a
moment, would keep a process from all other work.
"""

import asyncio
from contextlib import suppress

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

from outlast.fleet.exclusive_slot import UNUSED_SLOTS

# Leases that wait in one process: each has a few items in hand, and a death is charged
# to all of them.
MAX_WAITING_LEASES = 4


class LeaseSlotSupplier(CustomSlotSupplier):
    """
    Places for *most* leases that are at work, and for a few that wait.
    """

    def __init__(self, most: int) -> None:
        self._slots = most
        self._taken = 0
        self._waiting: set[object] = set()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def tuner(self) -> WorkerTuner:
        """
        What keeps a worker from polling while there is no room.
        """
        return WorkerTuner.create_composite(
            workflow_supplier=UNUSED_SLOTS,
            activity_supplier=self,
            local_activity_supplier=UNUSED_SLOTS,
            nexus_supplier=UNUSED_SLOTS,
        )

    def set_waiting(self, lease: object, waits: bool) -> None:
        """
        Note that *lease* only waits, or that it does not any more.
        """
        if waits != (lease in self._waiting):
            (self._waiting.add if waits else self._waiting.discard)(lease)
            self._changed.set()

    @property
    def has_free(self) -> bool:
        """
        Whether another lease may come.
        """
        waiting = min(len(self._waiting), MAX_WAITING_LEASES)
        return self._taken - waiting < self._slots

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self._loop = asyncio.get_running_loop()
        while not self.has_free:
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None  # leases are polled for

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None: ...

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        # The SDK calls from a thread of its own, also when the loop has ended.
        with suppress(RuntimeError):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        self._taken -= 1
        self._changed.set()
