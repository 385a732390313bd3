"""
The beginning and end of a mission in the ledger: its mission record, its report, and
how a failed mission looks to Temporal.
"""

import asyncio
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from outlast.contracts.batches import BatchReport
from outlast.contracts.errors import BadInputError
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.plan import mission_status
from outlast.contracts.reports import MissionStatus, Outcome, Report, TaskStatus
from outlast.contracts.retries import BACKOFF_CAP_S, BACKOFF_FIRST_S
from outlast.contracts.sizes import MAX_REASONS
from outlast.contracts.text import CAUSE_CHARS, one_line

# Recording the end waits for the store as long as a person may need to repair it: a
# month, at the longest pause between two tries.
BOOKKEEPING_ATTEMPTS = 100_000
BOOKKEEPING_LIMIT = timedelta(seconds=30)
BOOKKEEPING: dict[str, Any] = {
    "task_queue": MISSIONS_QUEUE,
    "heartbeat_timeout": BOOKKEEPING_LIMIT,
    "start_to_close_timeout": BOOKKEEPING_LIMIT,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
        maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
        maximum_attempts=BOOKKEEPING_ATTEMPTS,
    ),
}


def report_of(mission: str, outcomes: list[Outcome], cancelled: bool) -> Report:
    """
    Make the report of a mission that has ended, with what is missing and why.
    """
    status = mission_status(outcomes)
    if cancelled and status is not MissionStatus.COMPLETED:
        status = MissionStatus.CANCELLED
    lacking = [
        f"{each.id}: {reason}"
        for each in outcomes
        if each.status is not TaskStatus.DONE
        for reason in each.reasons
    ]
    if (more := len(lacking) - MAX_REASONS) > 0:
        lacking = [
            *lacking[:MAX_REASONS],
            f"and {more} more: outlast explain {mission}",
        ]
    return Report(mission=mission, status=status, tasks=outcomes, degraded=lacking)


def failure_of(report: Report) -> ApplicationError:
    """
    Make the error that fails the workflow of a failed mission, so that Temporal lists
    it as failed; its details hold the report, for whatever awaits the workflow.
    """
    reasons = "; ".join(report.degraded) or report.status.value
    again = f"do it again with: outlast redrive {report.mission}"
    return ApplicationError(
        f"mission {report.mission} failed: {one_line(reasons, CAUSE_CHARS)}; {again}",
        report,
        type=FailureType.MISSION_FAILED,
        non_retryable=True,
    )


def failure_of_batch(report: BatchReport) -> ApplicationError:
    """
    Make the error that fails the workflow of a batch on which no worker can work.
    """
    return ApplicationError(
        f"batch {report.batch} failed: {one_line(report.failed or '', CAUSE_CHARS)}",
        report,
        type=FailureType.BATCH_FAILED,
        non_retryable=True,
    )


async def record_mission_opened(mission: Mission) -> tuple[Opening | None, bool]:
    """
    Open the record of a mission that was started by Temporal alone, that lies within
    another one, or that was redriven; returns what it lacked, and whether it was
    cancelled meanwhile.
    """
    if mission.prior_run is not None and mission.prior_run.redrive is None:
        return None, False  # it continues in a new run, with its record open
    if mission.prior_run is not None:
        opening = workflow.start_activity(
            "record_mission_reopened", mission.id, **BOOKKEEPING
        )
    elif mission.parent or not mission.store:
        opening = workflow.start_activity(
            "record_mission_opened", mission, **BOOKKEEPING
        )
    else:
        return None, False
    cancelled = await await_uncancelled(opening)
    if mission.store:
        return None, cancelled
    try:
        return Opening.model_validate(opening.result()), cancelled
    except ValidationError:  # a client can complete an activity in the worker's place
        raise BadInputError("its first activity was completed by others") from None


async def record_mission_closed(report: Report) -> None:
    """
    Write the end into the ledger: the server deletes its history after its retention.
    """
    closing = workflow.start_activity(
        "record_mission_closed",
        args=[report, *parent_run()],
        summary=report.status,
        **BOOKKEEPING,
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


async def await_uncancelled(writing: workflow.ActivityHandle[Any]) -> bool:
    """
    Wait until *writing* has ended, however often the mission is cancelled meanwhile;
    returns whether it was.
    """
    cancelled = False
    while not writing.done():
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            cancelled = True
    writing.result()
    return cancelled
