"""
How a mission ends: its report, and the write that keeps it.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

from outlast.contracts.models import Mission
from outlast.contracts.names import MISSIONS_QUEUE
from outlast.contracts.plan import mission_status
from outlast.contracts.policies import BACKOFF_CAP_S, BACKOFF_FIRST_S
from outlast.contracts.reports import Outcome, Report, Status
from outlast.contracts.sizes import LACKS

# Closing the books waits for the store as long as it takes a person to mend it: a
# month, by the longest pause between two tries.
BOOKS_ATTEMPTS = 100_000
BOOKS_LIMIT = timedelta(seconds=30)
BOOKS: dict[str, Any] = {
    "task_queue": MISSIONS_QUEUE,
    "heartbeat_timeout": BOOKS_LIMIT,
    "start_to_close_timeout": BOOKS_LIMIT,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
        maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
        maximum_attempts=BOOKS_ATTEMPTS,
    ),
}


def report_of(mission: str, outcomes: list[Outcome], cancelled: bool) -> Report:
    """
    Report how a mission ended, with what it lacks and why.
    """
    status = mission_status(outcomes)
    if cancelled and status is not Status.COMPLETED:
        status = Status.CANCELLED
    lacking = [
        f"{each.id}: {reason}"
        for each in outcomes
        if each.status is not Status.DONE
        for reason in each.reasons
    ]
    if (more := len(lacking) - LACKS) > 0:
        lacking = [*lacking[:LACKS], f"and {more} more: starter.py explain {mission}"]
    return Report(mission=mission, status=status, tasks=outcomes, degraded=lacking)


async def open_books(mission: Mission) -> None:
    """
    Note in the ledger that a mission begins within another, or that one goes on.
    """
    if mission.past is not None and mission.past.redrive is None:
        return  # it goes on in another run
    if mission.past is not None:
        opening = workflow.start_activity("reopen_mission", mission.id, **BOOKS)
    elif mission.parent:
        opening = workflow.start_activity("open_mission", mission, **BOOKS)
    else:
        return
    if await await_uncancelled(opening):
        raise asyncio.CancelledError


async def close_books(report: Report) -> None:
    """
    Write the end into the ledger, since the server's retention forgets.
    """
    closing = workflow.start_activity(
        "close_mission",
        args=[report, *parent_run()],
        summary=report.status,
        **BOOKS,
    )
    # Cancelling a mission that is ending already must not lose its report.
    await await_uncancelled(closing)


def parent_run() -> list[str]:
    """
    Name the workflow and the run that have started this one as their child, empty where
    none has:
    a later run of theirs is told of the end by a signal.
    """
    parent = workflow.info().parent
    return [parent.workflow_id, parent.run_id] if parent else ["", ""]


async def await_uncancelled(writing: workflow.ActivityHandle[Any]) -> bool:
    """
    Wait until something is written, whatever happens meanwhile; says whether the
    mission was cancelled.
    """
    cancelled = False
    while not writing.done():
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            cancelled = True
    writing.result()
    return cancelled
