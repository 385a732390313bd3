"""
How a child's end reaches the run of its mission that awaits it: a signal, when it is
not the run that has started the child, and the child's record.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.batches import BatchReport
from outlast.contracts.reports import Report
from outlast.ledger.batches import CANCELLED, OPEN, BatchRecords
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store

T = TypeVar("T")


def child_end_activities(store: Store) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
    """
    Make the activities that read how children have ended from their records in *store*.
    """
    books, batches = MissionRecords(store), BatchRecords(store)

    @activity.defn(name="find_report")
    async def find_report(mission: str, digest: str) -> Report | None:
        async def recorded() -> Report | None:
            entry = await store.run(books.find, mission)
            if entry is not None and entry.digest != digest:
                raise _unknown(f"mission {mission!r} is another one of that id")
            return entry.report if entry else None

        return await _end_of(mission, recorded)

    @activity.defn(name="find_batch_report")
    async def find_batch_report(batch: str, _: str) -> BatchReport | None:
        async def recorded() -> BatchReport | None:
            entry = await store.run(batches.find, batch)
            if entry is None or entry.state == OPEN:
                return None
            report = await store.run(batches.count, batch)
            ended = {"cancelled": entry.state == CANCELLED}
            return report.model_copy(update=ended)

        return await _end_of(batch, recorded)

    return [find_report, find_batch_report]


async def signal_parent(parent: str, run: str) -> None:
    """
    Signal the end of this activity's workflow, which is recorded by now, to the mission
    *parent*, unless it is in the *run* that has started us: the server tells that one.
    """
    mission = activity.client().get_workflow_handle(parent)
    try:
        if (await mission.describe()).run_id != run:
            await mission.signal("child_ended", activity.info().workflow_id)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise  # tried again: what was recorded is recorded


async def _end_of(child: str, recorded: Callable[[], Awaitable[T]]) -> T:
    """
    Read how *child* has ended; None while it is under way.

    :raises ApplicationError: when it is not, and nothing is recorded.
    """
    found = await recorded()
    if found is None and not await _runs(child):
        found = await recorded()
        if found is None:
            raise _unknown(f"{child} was terminated, or deleted, before it had ended")
    return found


async def _runs(workflow: str) -> bool:
    handle = activity.client().get_workflow_handle(workflow)
    try:
        return (await handle.describe()).close_time is None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise


def _unknown(why: str) -> ApplicationError:
    return ApplicationError(why, type="UnknownEnd", non_retryable=True)
