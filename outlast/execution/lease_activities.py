"""
The pool's activities: work through a lease, survey a batch, bury an item, close.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from temporalio import activity

from outlast.agents.agent import Agent
from outlast.contracts.batches import (
    Lease,
    LeaseResult,
)
from outlast.contracts.ids import LeaseActivityId
from outlast.execution.attempt import WorkerContext
from outlast.execution.lease import LeaseExecution
from outlast.execution.run_order import order_of
from outlast.execution.temporal_activities import heartbeat, with_failures_translated

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
