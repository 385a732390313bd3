"""
Tasks that a child workflow does: a mission of its own, and the items of a fan-out.
"""

from temporalio.exceptions import ActivityError, ChildWorkflowError

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.batches import Batch, BatchReport, PoolState
from outlast.contracts.child_missions import child_mission
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.results import FanOutRef
from outlast.contracts.text import title
from outlast.workflows.bookkeeping import start_bookkeeping
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.children import ChildRun
from outlast.workflows.dispatch import Supersession
from outlast.workflows.failure import Action, FailureDecision, classify_failure
from outlast.workflows.mission_context import MissionContext

TASK_STATUS_BY_MISSION_STATUS = {
    MissionStatus.COMPLETED: TaskStatus.DONE,
    MissionStatus.DEGRADED: TaskStatus.DEGRADED,
    MissionStatus.PARKED: TaskStatus.PARKED,  # its parent escalates too
    MissionStatus.CANCELLED: TaskStatus.SKIPPED,
    MissionStatus.FAILED: TaskStatus.DEAD,
}


async def run_child_mission(context: MissionContext, given: AttemptInput) -> Report:
    """
    Run the mission that a task describes; its report is the task's result.
    """
    mission = child_mission(context.mission, given.task, given.round)
    child = ChildRun(
        kind="Supervisor",
        input=mission,
        id=mission.id,
        result=Report,
        record="find_report",
        known_by=mission.digest(),
        summary=title(mission.goal),
    )
    report: Report = await context.children.run(child)
    superseded = Supersession(context.numbers)
    with context.renewal.busy():
        while superseding := await _record_report(context, given, report):
            await superseded.check(superseding)
    return report


async def _record_report(
    context: MissionContext, given: AttemptInput, report: Report
) -> FailureDecision | None:
    """
    Record the report; returns why not when the ledger has a later dispatch than this
    history, as after the server was restored from a backup.
    """
    number = {"dispatch": context.numbers.next()}
    try:
        await start_bookkeeping(
            "record_report", given.model_copy(update=number), report
        )
    except ActivityError as error:
        superseding = classify_failure(error)
        if superseding.next is not Action.REDISPATCH_SUPERSEDED:
            raise
        return superseding
    return None


async def run_fan_out(
    context: MissionContext, fan_out: FanOutRef, task: str
) -> list[str]:
    """
    Have the pool work through the items of a fan-out of *task*; returns what is
    missing.

    :raises asyncio.CancelledError: when the cancellation of its task cut it short.
    """
    mission = context.mission
    if fan_out.items == 0:
        return []
    if fan_out.role not in mission.crew:
        return [f"nothing was worked through: no agent plays {fan_out.role!r}"]
    batch = Batch(
        id=fan_out.batch,
        role=fan_out.role,
        tenant=mission.tenant,
        policy=mission.crew[fan_out.role].policy,
        store=mission.store,
        heartbeat_timeout_s=mission.heartbeat_timeout_s,
        scope=mission.logical.within(task, context.plan.round(task)),
    )
    child = ChildRun(
        kind="Pool",
        input=PoolState(batch=batch),
        id=batch.id,
        result=BatchReport,
        record="find_batch_report",
        summary=f"{fan_out.items} items for {batch.role}",
    )
    try:
        return _degradation_reasons(await context.children.run(child))
    except (ActivityError, ChildWorkflowError):
        raise_if_cancelling()
        raise


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
