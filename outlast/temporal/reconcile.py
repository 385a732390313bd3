"""
Correct the store's records from the server: people and other programs end, delete and
reset workflows, and no code of ours runs when they do.

Every process with workflows reconciles now and then, and every command that shows or
changes what is under way does first. The result is written into the record, so that it
is true for a reader without a server.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from outlast.contracts.ids import FanOutId, parse
from outlast.ledger.batches import INTERRUPTED, OPEN, BatchRecords
from outlast.ledger.batches import BatchRecord as BatchEntry
from outlast.ledger.missions import ACCEPTED, MissionRecord, MissionRecords
from outlast.store.database import Store
from outlast.temporal.workflow_state import (
    WorkflowState,
    fetched,
    running_in,
    why_ended,
    workflow_state,
)

CONCURRENT_QUERIES = 8
WITH_A_REPORT = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED)


class RecordChangeKind(Enum):
    """
    What a record needs to be true.
    """

    NONE = auto()
    REOPEN = auto()  # it goes on, in a run that the record does not know
    CLOSE = auto()  # it has ended, and its report is to be fetched
    INTERRUPT = auto()  # it does not run any more, and has no report


def mission_change(entry: MissionRecord, workflow: WorkflowState) -> RecordChangeKind:
    """
    Say what *entry* needs, of whose workflow that was *workflow*.
    """
    if workflow.is_running:
        ending = entry.finished_at is not None and entry.run == workflow.run
        known = entry.state == ACCEPTED or ending
        return RecordChangeKind.NONE if known else RecordChangeKind.REOPEN
    if entry.state != ACCEPTED:
        return RecordChangeKind.NONE
    return (
        RecordChangeKind.CLOSE
        if workflow.status in WITH_A_REPORT
        else RecordChangeKind.INTERRUPT
    )


def batch_change(
    entry: BatchEntry, workflow: WorkflowState, mission: str | None
) -> RecordChangeKind:
    """
    The same of a batch.

    :param mission: the state of the mission of which a task has fanned it out; None
        where there is none.
    """
    if workflow.is_running:
        at_rest = entry.state == INTERRUPTED
        return RecordChangeKind.REOPEN if at_rest else RecordChangeKind.NONE
    # It may be about to begin: it is still fed, or its mission has just recorded it.
    begins = workflow.status is None and (not entry.closed or mission == ACCEPTED)
    if entry.state != OPEN or begins:
        return RecordChangeKind.NONE
    # It goes on with its mission, or is fanned out anew with its task.
    rests = mission in (None, INTERRUPTED)
    return RecordChangeKind.INTERRUPT if rests else RecordChangeKind.CLOSE


class Reconciler:
    """
    Corrects the records of *store* from the server of *client*.
    """

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        self._missions = MissionRecords(store)
        self._batches = BatchRecords(store)

    async def all(self) -> None:
        missions, batches = await self._store.run(self._open_workflows)
        await self.check(await running_in(self._client) | missions | batches)

    async def unknown(self) -> None:
        """
        Check what only one side has under way, but for open missions: the monitor of
        unserved tasks asks for those anyway.
        """
        running = await running_in(self._client)
        missions, batches = await self._store.run(self._open_workflows)
        await self.check((running - missions - batches) | (batches - running))

    async def check(self, names: Iterable[str]) -> None:
        """
        Correct the records of the missions and batches *names*.
        """
        turns = asyncio.Semaphore(CONCURRENT_QUERIES)

        async def one(name: str) -> None:
            async with turns:
                await self.reconcile(name)

        await asyncio.gather(*map(one, names))

    async def reconcile(self, name: str) -> None:
        """
        Correct the record of one mission or batch.
        """
        handle = self._client.get_workflow_handle(name)
        entry = await self._store.run(self._missions.find, name)
        if entry is not None:
            await self._reconcile_mission(entry, handle)
            return
        batch = await self._store.run(self._batches.find, name)
        if batch is not None:
            await self._reconcile_batch(batch, await workflow_state(handle))

    async def _reconcile_mission(
        self, entry: MissionRecord, handle: WorkflowHandle[Any, Any]
    ) -> None:
        seen = await workflow_state(handle)
        change = mission_change(entry, seen)
        report = None
        if change is RecordChangeKind.CLOSE:
            report = await fetched(self._client, entry.id, seen.run)
        if change is RecordChangeKind.REOPEN:
            await self._store.run(self._missions.reopen, entry.id)
        elif report is not None:
            await self._store.run(self._missions.close, report, seen.run)
        elif change is not RecordChangeKind.NONE:
            why = await why_ended(handle, seen)
            await self._store.run(self._missions.interrupt, entry.id, why)

    async def _reconcile_batch(self, entry: BatchEntry, seen: WorkflowState) -> None:
        act = {
            RecordChangeKind.REOPEN: self._batches.resume,
            RecordChangeKind.INTERRUPT: self._batches.interrupt,
        }
        change = batch_change(entry, seen, await self._mission_of(entry.id))
        if change is RecordChangeKind.CLOSE:
            await self._store.run(self._batches.close, entry.id, True)
        elif change in act:
            await self._store.run(act[change], entry.id)

    async def _mission_of(self, batch: str) -> str | None:
        """
        Read the state of the mission that has made *batch*; "" where it is forgotten.
        """
        fan_out = parse(FanOutId, batch)
        if fan_out is None:
            return None
        entry = await self._store.run(self._missions.find, fan_out.mission)
        return entry.state if entry else ""

    def _open_workflows(self) -> tuple[set[str], set[str]]:
        return set(self._missions.open_missions()), set(self._batches.open_batches())


async def disagreements(client: Client, store: Store) -> list[str]:
    """
    Make the records true and list the missions for which that was not possible.

    :raises RPCError: when the server does not answer.
    """
    reconciler = Reconciler(client, store)
    await reconciler.all()
    for name in await store.run(MissionRecords(store).open_missions):
        await reconciler.reconcile(name)  # it may have ended since
    return [
        f"{entry.id} is {entry.state} in the store and does not run in Temporal"
        for entry in map(
            MissionRecords(store).find, MissionRecords(store).open_missions()
        )
        if entry is not None
        and not (await workflow_state(client.get_workflow_handle(entry.id))).is_running
    ]
