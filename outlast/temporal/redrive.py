"""
Have a mission do again what it has given up, whether it is still open or has ended.
"""

import asyncio

from temporalio.client import Client

from outlast.contracts.errors import BadInputError, RefusedError
from outlast.contracts.missions import Mission
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.reports import Outcome, Report, TaskStatus
from outlast.contracts.updates import Redrive
from outlast.ledger.missions import MissionRecords
from outlast.temporal.missions import start_workflow

REDRIVABLE = {TaskStatus.DEAD, TaskStatus.PARKED}


def select_redrive(
    records: MissionRecords, mission: str, outcomes: list[Outcome], task: str | None
) -> Redrive:
    """
    Choose what of *outcomes* is done again, and from which checkpoints.

    :raises BadInputError: when *task* has not been given up, or nothing has.
    """
    ends = {each.id: each.status for each in outcomes}
    chosen = [name for name, status in ends.items() if status in REDRIVABLE]
    if task is not None:
        left = ends.get(task) in {*REDRIVABLE, TaskStatus.SKIPPED}
        chosen = [task] if left else []
    if not chosen:
        what = f"task {task} has not" if task else "no task has"
        raise BadInputError(
            f"{mission}: {what} been given up: see outlast dead-letters {mission}"
        )
    saved = records.checkpoints(mission)
    return Redrive(
        tasks=chosen,
        checkpoints={each: saved[each] for each in chosen if each in saved},
    )


async def restart_mission(
    client: Client, records: MissionRecords, report: Report, redrive: Redrive
) -> None:
    """
    Have a mission that has ended with *report* go on, in a new run of its workflow.

    :raises RefusedError: when nobody knows what it was asked, or it is under way again.
    """
    again = await asyncio.to_thread(_with_redrive, records, report, redrive)
    if not await start_workflow(client, again, restart=True):
        raise RefusedError(
            f"mission {again.id!r} is under way again: see outlast status {again.id}"
        )


def _with_redrive(records: MissionRecords, report: Report, redrive: Redrive) -> Mission:
    """
    Make the mission that goes on where *report* ends, and keep it: should its workflow
    be ended by others, it is resumed from there.
    """
    asked = records.requested(report.mission)
    if asked is None:
        raise RefusedError(
            f"nobody has kept what mission {report.mission!r} was asked: start it anew "
            "under another id"
        )
    past = _prior_run(records, asked, report, redrive)
    again = asked.model_copy(update={"prior_run": past})
    records.record_request(again)
    return again


def _prior_run(
    records: MissionRecords, mission: Mission, report: Report, redrive: Redrive
) -> PriorRun:
    asked_for = records.follow_ups(mission.id)
    ended = {each.id for each in report.tasks}
    added = {
        task.id: (task, author) for author in asked_for for task in asked_for[author]
    }
    more = [task for task, _ in added.values() if task.id in ended]
    return PriorRun(
        added=more,
        authors={name: author for name, (_, author) in added.items() if name in ended},
        outcomes=report.tasks,
        redrive=redrive,
    )
