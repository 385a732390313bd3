"""
The pool's activities: work through a lease, survey a batch, bury an item, close.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from temporalio import activity

from outlast.agents.registry import Agent
from outlast.contracts.batches import (
    BatchReport,
    Burial,
    Lease,
    Survey,
    Worked,
)
from outlast.contracts.ids import LeaseActivityId
from outlast.execution.attempt import Place
from outlast.execution.child_ends import tell_parent
from outlast.execution.current_run import order_of
from outlast.execution.lease import Lent
from outlast.execution.temporal_activities import ended, send
from outlast.ledger.batches import Batches
from outlast.ledger.items import Items
from outlast.store.database import Store
from outlast.telemetry.counters import DEAD_ITEMS, count

Activity = Callable[..., Coroutine[Any, Any, Any]]
Tell = Callable[[object, bool], None]


def lend(agent: Agent, place: Place, tell: Tell = lambda *_: None) -> Activity:
    """
    Make the activity in which *agent* works through leases at *place*; *tell* hears of
    each whether it only waits.
    """

    @activity.defn(name=str(LeaseActivityId(agent.role)))
    async def work(lease: Lease) -> Worked:
        info = activity.info()
        lent = Lent(agent, lease, order_of(lease.dispatch), place, send)
        lent.hand = place.hands.take(
            info.task_token,
            lease.batch.id,
            lease.id,
            agent.role,
            info.attempt,
        )
        lent.tell_waiting = partial(tell, lent)
        try:
            return await ended(lent, lent.work())
        finally:
            tell(lent, False)

    return work


def keeping(store: Store) -> list[Activity]:
    """
    Make the activities that keep the books of batches in *store*.
    """
    batches, items = Batches(store), Items(store)

    @activity.defn(name="survey")
    async def survey(batch: str, after: int) -> Survey:
        return await store.run(items.survey, batch, after)

    @activity.defn(name="bury")
    async def bury(burial: Burial) -> bool:
        buried = await store.run(items.bury, burial)
        if buried:
            count(DEAD_ITEMS)
        return buried

    @activity.defn(name="close_batch")
    async def close(
        batch: str, cancelled: bool, parent: str, run: str
    ) -> BatchReport | None:
        report = await store.run(batches.close, batch, cancelled)
        if report is not None and parent:
            await tell_parent(parent, run)
        return report

    return [survey, bury, close]
