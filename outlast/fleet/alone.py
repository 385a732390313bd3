"""
One suspect at a time, of whatever role.

Each role has a queue of its own for suspects, since not every fleet plays every role.
A process with two of them in hand could not tell which one killed it: it polls only
while it has none, and hands on at once what a poll that was under way brings besides.
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

from outlast.contracts.errors import DRAINED

ONE = FixedSizeSlotSupplier(1)  # of what these workers never have


class Turn(Interceptor):
    """
    The turn to play, which all workers of a process share and one attempt has.
    """

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()

    @property
    def tuner(self) -> WorkerTuner:
        """
        What keeps a worker from polling while somebody has the turn.
        """
        return WorkerTuner.create_composite(
            workflow_supplier=ONE,
            activity_supplier=_WhileFree(self._free),
            local_activity_supplier=ONE,
            nexus_supplier=ONE,
        )

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002 - as the SDK has it
    ) -> ActivityInboundInterceptor:
        return _Taking(next, self._free)


class _Taking(ActivityInboundInterceptor):
    """
    Takes the turn for the length of an attempt, or hands the attempt on.
    """

    def __init__(self, after: ActivityInboundInterceptor, free: asyncio.Event) -> None:
        super().__init__(after)
        self._free = free

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        if not self._free.is_set():
            raise ApplicationError(
                "another suspect is in hand", type=DRAINED, non_retryable=True
            )
        self._free.clear()
        try:
            return await super().execute_activity(input)
        finally:
            self._free.set()


class _WhileFree(CustomSlotSupplier):
    """
    Gives a slot, before each poll, as soon as nobody has the turn.
    """

    def __init__(self, free: asyncio.Event) -> None:
        self._free = free

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        await self._free.wait()
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None  # suspects are polled for

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None: ...

    def release_slot(self, ctx: SlotReleaseContext) -> None: ...
