"""
An agent's fan-out: the pool works through its items, in a child workflow.
"""

from temporalio.exceptions import ActivityError, ChildWorkflowError

from outlast.contracts.batches import Batch, BatchReport, PoolState
from outlast.contracts.missions import Mission
from outlast.contracts.results import FanOutRef
from outlast.contracts.scopes import Scope
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.children import ChildRun, ChildRuns


async def run_fan_out(
    spread: FanOutRef, mission: Mission, scope: Scope, children: ChildRuns
) -> list[str]:
    """
    Have the pool work through the items of a fan-out; returns what is missing.

    :raises asyncio.CancelledError: when the cancellation of its task cut it short.
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
        report: BatchReport = await children.run(_batch_run(batch, spread.items))
        return _degradation_reasons(report)
    except (ActivityError, ChildWorkflowError):
        raise_if_cancelling()
        raise


def _batch_run(batch: Batch, items: int) -> ChildRun:
    return ChildRun(
        kind="Pool",
        input=PoolState(batch=batch),
        id=batch.id,
        result=BatchReport,
        record="find_batch_report",
        summary=f"{items} items for {batch.role}",
    )


def _degradation_reasons(report: BatchReport) -> list[str]:
    if report.failed:
        return [f"the pool gave up: {report.failed}"]
    left = report.items - report.done - report.dead
    if report.cancelled and left:
        raise_if_cancelling()
        return [f"the pool was cancelled: {left} of {report.items} items are left"]
    if not report.dead:
        return []
    told = f"outlast dead-letters {report.batch}"
    return [f"{report.dead} of {report.items} items are dead letters: {told}"]
