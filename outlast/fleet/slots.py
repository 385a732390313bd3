"""
How many attempts a process takes at a time. A worker polls only while there is a slot
for what may come.

A suspect, an isolated attempt, and the attempts of an agent that allows only so many
share the slots of all their queues: each role has a queue of its own for suspects,
since not every fleet plays every role, and a process with two of them in flight could
not tell which one killed it. What a poll that was under way brings besides is handed
back at once.

A lease that only waits for its last items leaves its slot to another: an item that
hangs, or takes a minute among items that take a moment, would keep a process from all
other work.
"""

import asyncio
from contextlib import suppress
from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    CustomSlotSupplier,
    ExecuteActivityInput,
    FixedSizeSlotSupplier,
    Interceptor,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType

# Leases that wait in one process: each has a few items in flight, and a death is
# charged to all of them.
MAX_WAITING_LEASES = 4

UNUSED_SLOTS = FixedSizeSlotSupplier(1)  # of what these workers never have


class PolledSlots(CustomSlotSupplier):
    """
    Slots that are reserved before a poll, and only so.
    """

    @property
    def tuner(self) -> WorkerTuner:
        return WorkerTuner.create_composite(
            workflow_supplier=UNUSED_SLOTS,
            activity_supplier=self,
            local_activity_supplier=UNUSED_SLOTS,
            nexus_supplier=UNUSED_SLOTS,
        )

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None: ...

    def release_slot(self, ctx: SlotReleaseContext) -> None: ...


class ExclusiveSlot(PolledSlots, Interceptor):
    """
    The places for attempts that workers of a process share.

    :param places: attempts at a time.
    :param once: whether a place that was taken is never free again.
    """

    def __init__(self, places: int = 1, once: bool = False) -> None:
        self._places = places
        self._single_use = once
        self._free = asyncio.Event()
        self.used = asyncio.Event()  # an attempt is over
        self._update()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        await self._free.wait()
        return SlotPermit()

    def try_claim(self) -> bool:
        """
        Take a place; False where none is free.
        """
        if not self._places:
            return False
        self._places -= 1
        self._update()
        return True

    def release(self) -> None:
        self.used.set()
        if not self._single_use:
            self._places += 1
            self._update()

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002 - as the SDK has it
    ) -> ActivityInboundInterceptor:
        return _ExclusiveSlotInterceptor(next, self)

    def _update(self) -> None:
        (self._free.set if self._places else self._free.clear)()


class _ExclusiveSlotInterceptor(ActivityInboundInterceptor):
    """
    Takes a place for the length of an attempt, or hands the attempt back.
    """

    def __init__(self, after: ActivityInboundInterceptor, slot: ExclusiveSlot) -> None:
        super().__init__(after)
        self._slot = slot

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        if not self._slot.try_claim():
            raise ApplicationError(
                "the process has no room for another attempt",
                FailureDetails(detected_by=Detector.DRAIN).dump(),
                type=FailureType.DRAINED,
                non_retryable=True,
            )
        try:
            return await super().execute_activity(input)
        finally:
            self._slot.release()


class LeaseSlots(PolledSlots):
    """
    Slots for *most* leases that are at work, and for a few that wait.
    """

    def __init__(self, most: int) -> None:
        self._slots = most
        self._taken = 0
        self._waiting: set[object] = set()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def set_waiting(self, lease: object, waits: bool) -> None:
        """
        Note that *lease* only waits, or that it does not any more.
        """
        if waits != (lease in self._waiting):
            (self._waiting.add if waits else self._waiting.discard)(lease)
            self._changed.set()

    @property
    def has_free(self) -> bool:
        waiting = min(len(self._waiting), MAX_WAITING_LEASES)
        return self._taken - waiting < self._slots

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self._loop = asyncio.get_running_loop()
        while not self.has_free:
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        return SlotPermit()

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        # The SDK calls from a thread of its own, also when the loop has ended.
        with suppress(RuntimeError):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._free_one)

    def _free_one(self) -> None:
        self._taken -= 1
        self._changed.set()
