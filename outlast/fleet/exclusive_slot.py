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

ONE = FixedSizeSlotSupplier(1)  # of what these workers never have


class Turn(Interceptor):
    """
    The places for attempts that workers of a process share.

    :param places: attempts at a time.
    :param once: whether a place that was taken is never free again.
    """

    def __init__(self, places: int = 1, once: bool = False) -> None:
        self._places = places
        self._once = once
        self._free = asyncio.Event()
        self.played = asyncio.Event()  # an attempt is over
        self._look()

    @property
    def tuner(self) -> WorkerTuner:
        """
        What keeps a worker from polling while no place is free.
        """
        return WorkerTuner.create_composite(
            workflow_supplier=ONE,
            activity_supplier=_WhileFree(self._free),
            local_activity_supplier=ONE,
            nexus_supplier=ONE,
        )

    def take(self) -> bool:
        """
        Take a place; False where none is free.
        """
        if not self._places:
            return False
        self._places -= 1
        self._look()
        return True

    def give_back(self) -> None:
        """
        Free the place of an attempt that is over.
        """
        self.played.set()
        if not self._once:
            self._places += 1
            self._look()

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002 - as the SDK has it
    ) -> ActivityInboundInterceptor:
        return _Taking(next, self)

    def _look(self) -> None:
        (self._free.set if self._places else self._free.clear)()


class _Taking(ActivityInboundInterceptor):
    """
    Takes a place for the length of an attempt, or hands the attempt on.
    """

    def __init__(self, after: ActivityInboundInterceptor, turn: Turn) -> None:
        super().__init__(after)
        self._turn = turn

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        if not self._turn.take():
            raise ApplicationError(
                "the process has no room for another attempt",
                FailureDetails(detected_by=Detector.DRAIN).dump(),
                type=FailureType.DRAINED,
                non_retryable=True,
            )
        try:
            return await super().execute_activity(input)
        finally:
            self._turn.give_back()


class _WhileFree(CustomSlotSupplier):
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
