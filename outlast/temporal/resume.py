"""
Have a mission or batch go on whose workflow was ended by others, or end it for good.

It goes on in a new run of its workflow from what was asked for: what the ledger has is
not done again.
"""

import asyncio

from temporalio.client import Client

from outlast.contracts.errors import BadInputError, RefusedError
from outlast.contracts.missions import Mission
from outlast.contracts.reports import (
    MissionStatus,
    Outcome,
    Report,
    TaskStatus,
    outcome_without_attempt,
)
from outlast.contracts.tasks import Task
from outlast.ledger.batches import INTERRUPTED, BatchRecords
from outlast.ledger.batches import BatchRecord as BatchEntry
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.temporal import batches as batch_runtime
from outlast.temporal.missions import require_capacity, start_workflow
from outlast.temporal.reconcile import Reconciler

ABANDONED = "abandoned"


async def resume(client: Client, store: Store, name: str) -> None:
    """
    Have the interrupted mission or batch *name* go on.

    :raises BadInputError: when it is not interrupted.
    """
    await Reconciler(client, store).check([name])
    if batch := interrupted_batch(store, name):
        again = batch_runtime.resolve_batch(batch.role, name, batch.tenant, store)
        require_capacity(store)
        await batch_runtime.start_or_wake_pool(client, again)
        await store.run(BatchRecords(store).resume, name)
        return
    records = MissionRecords(store)
    mission = await asyncio.to_thread(requested_mission, records, name)
    require_capacity(store)
    await start_workflow(client, mission, restart=True)
    await store.run(records.accept, name)


async def abandon(client: Client | None, store: Store, name: str) -> None:
    """
    End the interrupted mission or batch *name* for good; what is done is kept.

    :param client: None where no server answers: the record is what is known then.
    :raises BadInputError: when it is not interrupted.
    """
    if client is not None:
        await Reconciler(client, store).check([name])
    if interrupted_batch(store, name):
        await store.run(BatchRecords(store).close, name, True)
        return
    records = MissionRecords(store)
    mission = await asyncio.to_thread(requested_mission, records, name)
    report = await asyncio.to_thread(abandoned, records, mission)
    await store.run(records.close, report)


def interrupted_batch(store: Store, name: str) -> BatchEntry | None:
    found = BatchRecords(store).find(name)
    at_rest = found is not None and found.state == INTERRUPTED
    return found if at_rest else None


def requested_mission(records: MissionRecords, name: str) -> Mission:
    """
    Read what an interrupted mission was asked.

    :raises BadInputError: when it is not interrupted.
    :raises RefusedError: when nobody has kept it.
    """
    entry = records.find(name)
    if entry is None or entry.state != INTERRUPTED:
        how = f"is {entry.state}" if entry else "is not in the store"
        raise BadInputError(
            f"mission {name!r} {how}: only one whose workflow was ended in Temporal is "
            "resumed or abandoned; see it with outlast list"
        )
    mission = records.requested(name)
    if mission is None:
        raise RefusedError(
            f"mission {name!r} was begun by a release that did not keep what it was "
            "asked: start it anew under another id"
        )
    return mission


def abandoned(records: MissionRecords, mission: Mission) -> Report:
    """
    Report of a mission that is ended for good what the ledger has of it.
    """
    done, more = set(records.results(mission.id)), records.follow_ups(mission.id)
    tasks = {task.id: task for task in mission.tasks}
    tasks |= {task.id: task for added in more.values() for task in added}
    outcomes = [_outcome(task, done) for task in tasks.values()]
    lacking = [
        f"{each.id}: {ABANDONED}"
        for each in outcomes
        if each.status is TaskStatus.SKIPPED
    ]
    return Report(
        mission=mission.id,
        status=MissionStatus.CANCELLED,
        tasks=outcomes,
        degraded=lacking,
    )


def _outcome(task: Task, done: set[str]) -> Outcome:
    if task.id in done:
        return outcome_without_attempt(task, TaskStatus.DONE)
    return outcome_without_attempt(task, TaskStatus.SKIPPED, ABANDONED)
