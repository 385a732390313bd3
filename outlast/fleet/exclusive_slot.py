"""
How many attempts a process takes at a time: one suspect of whatever role, one attempt
in a process of its own, or as many as an agent allows.

Each role has a queue of its own for suspects, since not every fleet plays every role.
A process with two of them in hand could not tell which one killed it: it polls only
while it has room, and hands on at once what a poll that was under way brings besides.
"""

import asyncio
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

UNUSED_SLOTS = FixedSizeSlotSupplier(1)  # of what these workers never have


class ExclusiveSlot(Interceptor):
    """
    The places for attempts that workers of a process share.

    :param places: attempts at a time.
    :param once: whether a place that was taken is never free again.
    """

    def __init__(self, places: int = 1, once: bool = False) -> None:
        self._limit = places
        self._single_use = once
        self._free = asyncio.Event()
        self.used = asyncio.Event()  # an attempt is over
        self._update()

    @property
    def tuner(self) -> WorkerTuner:
        """
        What keeps a worker from polling while no place is free.
        """
        return WorkerTuner.create_composite(
            workflow_supplier=UNUSED_SLOTS,
            activity_supplier=_ExclusiveSlotSupplier(self._free),
            local_activity_supplier=UNUSED_SLOTS,
            nexus_supplier=UNUSED_SLOTS,
        )

    def try_claim(self) -> bool:
        """
        Take a place; False where none is free.
        """
        if not self._limit:
            return False
        self._limit -= 1
        self._update()
        return True

    def release(self) -> None:
        """
        Free the place of an attempt that is over.
        """
        self.used.set()
        if not self._single_use:
            self._limit += 1
            self._update()

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002 - as the SDK has it
    ) -> ActivityInboundInterceptor:
        return _ExclusiveSlotInterceptor(next, self)

    def _update(self) -> None:
        (self._free.set if self._limit else self._free.clear)()


class _ExclusiveSlotInterceptor(ActivityInboundInterceptor):
    """
    Takes a place for the length of an attempt, or hands the attempt on.
    """

    def __init__(self, after: ActivityInboundInterceptor, turn: ExclusiveSlot) -> None:
        super().__init__(after)
        self._slot = turn

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


class _ExclusiveSlotSupplier(CustomSlotSupplier):
    """
    Gives a slot, before each poll, as soon as a place is free.
    """

    def __init__(self, free: asyncio.Event) -> None:
        self._free = free

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        await self._free.wait()
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None  # what comes is polled for

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None: ...

    def release_slot(self, ctx: SlotReleaseContext) -> None: ...
