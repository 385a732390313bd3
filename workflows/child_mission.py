"""
A task that is a mission of its own: a child workflow runs it, in the same ledger.
"""

from temporalio.exceptions import ActivityError

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.child_missions import child_mission
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.text import title
from outlast.workflows.bookkeeping import start_bookkeeping
from outlast.workflows.children import ChildRun, ChildRuns
from outlast.workflows.dispatch import DispatchNumbers, Supersession
from outlast.workflows.failure import Action, FailureDecision, classify_failure

TASK_STATUS_BY_MISSION_STATUS = {
    MissionStatus.COMPLETED: TaskStatus.DONE,
    MissionStatus.DEGRADED: TaskStatus.DEGRADED,
    MissionStatus.PARKED: TaskStatus.PARKED,  # its parent escalates too
    MissionStatus.CANCELLED: TaskStatus.SKIPPED,
    MissionStatus.FAILED: TaskStatus.DEAD,
}


async def run_child_mission(
    mission_task: AttemptInput,
    parent: Mission,
    children: ChildRuns,
    numbers: DispatchNumbers,
) -> Report:
    """
    Run the mission that a task describes; its report is the task's result.
    """
    mission = child_mission(parent, mission_task.task, mission_task.round)
    child = ChildRun(
        kind="Supervisor",
        input=mission,
        id=mission.id,
        result=Report,
        record="find_report",
        known_by=mission.digest(),
        summary=title(mission.goal),
    )
    report: Report = await children.run(child)
    superseded = Supersession(numbers)
    with children.renewal.busy():
        while superseding := await _record_report(mission_task, report, numbers):
            await superseded.check(superseding)
    return report


async def _record_report(
    mission_task: AttemptInput, report: Report, numbers: DispatchNumbers
) -> FailureDecision | None:
    """
    Record the report; returns why not when the ledger has a later dispatch than this
    history, as after the server was restored from a backup.
    """
    given = mission_task.model_copy(update={"dispatch": numbers.next()})
    try:
        await start_bookkeeping("record_report", given, report)
    except ActivityError as error:
        superseding = classify_failure(error)
        if superseding.next is not Action.REDISPATCH_SUPERSEDED:
            raise
        return superseding
    return None
