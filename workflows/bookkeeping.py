"""
What workflows write to the ledger and ask it, how missions and batches open and close
there, and how those that failed look to Temporal.
"""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from outlast.contracts.batches import BatchReport
from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.reports import Report
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import BACKOFF_CAP_S, BACKOFF_FIRST_S
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.workflows.cancellation import await_uncancelled

# Recording the end waits for the store as long as a person may need to repair it: a
# month, at the longest pause between two tries.
BOOKKEEPING_ATTEMPTS = 100_000
BOOKKEEPING_LIMIT = timedelta(seconds=30)
BATCH_BOOKKEEPING_LIMIT = timedelta(seconds=60)  # it may read a batch's items


def start_bookkeeping(
    activity: str,
    *args: Any,
    summary: str | None = None,
    limit: timedelta = BOOKKEEPING_LIMIT,
) -> workflow.ActivityHandle[Any]:
    """
    Start the ledger's *activity* in a process with workflows.
    """
    return workflow.start_activity(
        activity,
        args=args,
        summary=summary,
        task_queue=MISSIONS_QUEUE,
        heartbeat_timeout=limit,
        start_to_close_timeout=limit,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
            maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
            maximum_attempts=BOOKKEEPING_ATTEMPTS,
        ),
    )


async def recorded_answer(mission: str, task: str, round_: int) -> ResultRef | None:
    """
    Ask the ledger for the answer of the task's round; None when there is none, or when
    the workflow was cancelled meanwhile.
    """
    try:
        found = start_bookkeeping("find_result", mission, task, round_, summary=task)
        return ResultRef.read(await found)
    except ActivityError:
        return None


def failure_of(report: Report | BatchReport) -> ApplicationError:
    """
    Make the error that fails the workflow of a failed mission or batch, so that
    Temporal lists it as failed; its details hold the report.
    """
    if isinstance(report, Report):
        reasons = "; ".join(report.degraded) or report.status.value
        told = f"mission {report.mission} failed: {one_line(reasons, CAUSE_CHARS)}"
        told += f"; do it again with: outlast redrive {report.mission}"
    else:
        reasons = one_line(report.failed or "", CAUSE_CHARS)
        told = f"batch {report.batch} failed: {reasons}"
    return ApplicationError(told, report, type=report.failure_type, non_retryable=True)


async def record_mission_opened(mission: Mission) -> tuple[Opening | None, bool]:
    """
    Open the record of a mission that was started by Temporal alone, that lies within
    another one, or that was redriven; returns what it lacked, and whether it was
    cancelled meanwhile.
    """
    if mission.prior_run is not None and mission.prior_run.redrive is None:
        return None, False  # it continues in a new run, with its record open
    if mission.prior_run is not None:
        opening = start_bookkeeping("record_mission_reopened", mission.id)
    elif mission.parent or not mission.store:
        opening = start_bookkeeping("record_mission_opened", mission)
    else:
        return None, False
    cancelled = await await_uncancelled(opening)
    if mission.store:
        return None, cancelled
    found = Opening.read(opening.result())
    if found is None:  # a client has completed the activity in the worker's place
        raise BadInputError("its first activity was completed by others")
    return found, cancelled


async def record_mission_closed(report: Report) -> None:
    """
    Write the end into the ledger: the server deletes its history after its retention.
    """
    closing = start_bookkeeping(
        "record_mission_closed", report, *parent_run(), summary=report.status
    )
    # A cancellation that arrives while the mission ends must not lose its report.
    await await_uncancelled(closing)


def parent_run() -> list[str]:
    """
    Name the workflow and the run that have started this workflow as their child; empty
    where it has no parent. The ledger signals the end to a later run of the parent.
    """
    parent = workflow.info().parent
    return [parent.workflow_id, parent.run_id] if parent else ["", ""]
