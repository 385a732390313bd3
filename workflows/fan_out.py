"""
What an agent has spread over many items: worked through by the pool, in a child.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

from outlast.contracts.models import FanOutRef, Mission
from outlast.contracts.names import MISSIONS_QUEUE
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import Batch, BatchReport, PoolState
from outlast.contracts.scopes import Scope
from workflows.dispatch import told_to_end


async def run_fan_out(spread: FanOutRef, mission: Mission, scope: Scope) -> list[str]:
    """
    Have the pool work through what an agent has spread; returns what it lacks.

    :raises asyncio.CancelledError: when it was cut short because its task was.
    """
    if spread.items == 0:
        return []
    if spread.role not in mission.crew:
        return [f"nothing was worked through: no agent plays {spread.role!r}"]
    batch = Batch(
        id=spread.batch,
        role=spread.role,
        tenant=mission.tenant,
        policy=mission.crew[spread.role].policy,
        store=mission.store,
        heartbeat_timeout_s=mission.heartbeat_timeout_s,
        scope=scope,
    )
    try:
        return _lacks(await _pool(batch, spread.items))
    except ChildWorkflowError:
        if told_to_end():
            raise asyncio.CancelledError from None
        raise


async def _pool(batch: Batch, items: int) -> BatchReport:
    report: BatchReport = await workflow.execute_child_workflow(
        "Pool",
        PoolState(batch=batch),
        id=batch.id,
        result_type=BatchReport,
        task_queue=MISSIONS_QUEUE,
        task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
        static_summary=f"{items} items for {batch.role}",
        cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return report


def _lacks(report: BatchReport) -> list[str]:
    if report.failed:
        return [f"the pool gave up: {report.failed}"]
    left = report.items - report.done - report.dead
    if report.cancelled and left:
        if told_to_end():
            raise asyncio.CancelledError
        return [f"the pool was cancelled: {left} of {report.items} items are left"]
    if not report.dead:
        return []
    told = f"starter.py dead-letters {report.batch}"
    return [f"{report.dead} of {report.items} items are dead letters: {told}"]
