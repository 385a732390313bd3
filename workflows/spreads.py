"""
What an agent has spread over many items: worked through by the pool, in a child.
"""

from datetime import timedelta

from temporalio import workflow

from outlast.contracts.models import MISSIONS_QUEUE, Mission, Spreading
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import Batch, BatchReport, PoolState


async def work_through(spread: Spreading, mission: Mission) -> list[str]:
    """
    Have the pool work through what an agent has spread; returns what it lacks.
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
    )
    report: BatchReport = await workflow.execute_child_workflow(
        "Pool",
        PoolState(batch=batch),
        id=batch.id,
        result_type=BatchReport,
        task_queue=MISSIONS_QUEUE,
        task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
        static_summary=f"{spread.items} items for {spread.role}",
        cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    if report.failed:
        return [f"the pool gave up: {report.failed}"]
    if not report.dead:
        return []
    told = f"starter.py dead-letters {batch.id}"
    return [f"{report.dead} of {report.items} items are dead letters: {told}"]
