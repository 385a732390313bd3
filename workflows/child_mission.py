"""
A task that is a mission of its own: carried out by a child, kept in the same books.
"""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from outlast.contracts.child_missions import child_of
from outlast.contracts.models import Assignment, Mission
from outlast.contracts.reports import Report, Status, report_in
from outlast.contracts.text import title
from outlast.workflows.bookkeeping import BOOKS
from outlast.workflows.children import Child, Children
from outlast.workflows.failure import Next, Verdict, judge
from outlast.workflows.task_dispatch import DispatchNumbers, Supersession

ENDS = {
    Status.COMPLETED: Status.DONE,
    Status.DEGRADED: Status.DEGRADED,
    Status.PARKED: Status.PARKED,  # what a child escalates its parent passes on
    Status.CANCELLED: Status.SKIPPED,
    Status.FAILED: Status.DEAD,
}


async def grow(
    mission_task: Assignment,
    parent: Mission,
    children: Children,
    numbers: DispatchNumbers,
) -> Report:
    """
    Carry out the mission that a task stands for; its report is the task's result.
    """
    mission = child_of(parent, mission_task.task, mission_task.round)
    child = Child(
        kind="Supervisor",
        given=mission,
        id=mission.id,
        result=Report,
        failed=report_in,
        record="find_report",
        known_by=mission.digest(),
        summary=title(mission.goal),
    )
    report: Report = await children.run(child)
    superseded = Supersession(numbers)
    with children.renewal.busy():
        while verdict := await _unrecorded(mission_task, report, numbers):
            await superseded.heed(verdict)
    return report


async def _unrecorded(
    mission_task: Assignment, report: Report, numbers: DispatchNumbers
) -> Verdict | None:
    """
    Record the report; returns why not when the ledger has a later dispatch than this
    history, as after the server was restored from a backup.
    """
    given = mission_task.model_copy(update={"dispatch": numbers.next()})
    try:
        await workflow.execute_activity("record_report", args=[given, report], **BOOKS)
    except ActivityError as error:
        verdict = judge(error)
        if verdict.next is Next.AGAIN_SUPERSEDED:
            return verdict
        raise
    return None
