"""
The pool's activities: work through a lease, survey a batch, bury an item, close.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from temporalio import activity

from outlast.agents.agent import Agent
from outlast.contracts.batches import (
    BatchReport,
    Lease,
    LeaseResult,
    PendingItems,
    PoisonItem,
)
from outlast.contracts.ids import LeaseActivityId
from outlast.execution.attempt import WorkerContext
from outlast.execution.child_ends import signal_parent
from outlast.execution.current_run import order_of
from outlast.execution.lease import LeaseExecution
from outlast.execution.temporal_activities import heartbeat, with_failures_translated
from outlast.ledger.batches import BatchRecords
from outlast.ledger.items import ItemRecords
from outlast.store.database import Store
from outlast.telemetry.counters import DEAD_ITEMS, count

Activity = Callable[..., Coroutine[Any, Any, Any]]
SetWaiting = Callable[[object, bool], None]


def lease_activity(
    agent: Agent, worker: WorkerContext, set_waiting: SetWaiting = lambda *_: None
) -> Activity:
    """
    Make the activity in which *agent* works through leases at *worker*; *set_waiting*
    hears of each whether it only waits.
    """

    @activity.defn(name=str(LeaseActivityId(agent.role)))
    async def work(lease: Lease) -> LeaseResult:
        info = activity.info()
        execution = LeaseExecution(
            agent, lease, order_of(lease.dispatch), worker, heartbeat
        )
        execution.in_flight = worker.in_flight.start(
            info.task_token,
            lease.batch.id,
            lease.id,
            agent.role,
            info.attempt,
        )
        execution.set_waiting = partial(set_waiting, execution)
        try:
            return await with_failures_translated(execution, execution.run())
        finally:
            set_waiting(execution, False)

    return work


def batch_activities(store: Store) -> list[Activity]:
    """
    Make the activities that keep the books of batches in *store*.
    """
    batches, items = BatchRecords(store), ItemRecords(store)

    @activity.defn(name="pending_items")
    async def pending_items(batch: str, after: int) -> PendingItems:
        return await store.run(items.pending, batch, after)

    @activity.defn(name="dead_letter_item")
    async def dead_letter_item(poison: PoisonItem) -> bool:
        is_dead = await store.run(items.dead_letter, poison)
        if is_dead:
            count(DEAD_ITEMS)
        return is_dead

    @activity.defn(name="record_batch_closed")
    async def close(
        batch: str, cancelled: bool, parent: str, run: str
    ) -> BatchReport | None:
        report = await store.run(batches.close, batch, cancelled)
        if report is not None and parent:
            await signal_parent(parent, run)
        return report

    return [pending_items, dead_letter_item, close]
