"""
Have a mission do again what it has given up, whether it is still open or has ended.
"""

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from outlast.contracts.errors import BadInputError, RefusedError, UnavailableError
from outlast.contracts.models import Mission, Past, Redrive
from outlast.contracts.names import MISSIONS_QUEUE
from outlast.contracts.policies import SHIPPED
from outlast.contracts.reports import Outcome, Report, Status
from outlast.contracts.texts import title
from outlast.runtime.start import tags_of
from outlast.store.books import Books

GIVEN_UP = {Status.DEAD, Status.PARKED}


def redriven(
    books: Books, mission: str, outcomes: list[Outcome], task: str | None
) -> Redrive:
    """
    Choose what of *outcomes* is done again, and from which checkpoints.

    :raises BadInputError: when *task* has not been given up, or nothing has.
    """
    ends = {each.id: each.status for each in outcomes}
    chosen = [name for name, status in ends.items() if status in GIVEN_UP]
    if task is not None:
        left = ends.get(task) in {*GIVEN_UP, Status.SKIPPED}
        chosen = [task] if left else []
    if not chosen:
        what = f"task {task} has not" if task else "no task has"
        raise BadInputError(f"{mission}: {what} been given up")
    saved = books.checkpoints(mission)
    return Redrive(
        tasks=chosen,
        checkpoints={each: saved[each] for each in chosen if each in saved},
    )


async def go_on(client: Client, books: Books, report: Report, redrive: Redrive) -> None:
    """
    Have a mission that has ended with *report* go on, in a new run of its workflow.

    :raises RefusedError: when the server has forgotten it, or it is under way again.
    """
    mission = await _asked(client, report.mission)
    past = await asyncio.to_thread(_past, books, mission, report, redrive)
    try:
        await client.start_workflow(
            "Supervisor",
            mission.model_copy(update={"past": past}),
            id=mission.id,
            task_queue=MISSIONS_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
            static_summary=title(mission.goal),
            search_attributes=await tags_of(client, mission),
        )
    except WorkflowAlreadyStartedError:
        raise RefusedError(f"mission {mission.id!r} is under way again") from None
    except RPCError as error:
        raise UnavailableError(f"{mission.id}: {error.message}") from error


async def _asked(client: Client, mission: str) -> Mission:
    """
    Read what was asked for from the mission's history.
    """
    handle = client.get_workflow_handle(mission)
    try:
        async for event in handle.fetch_history_events():
            given = event.workflow_execution_started_event_attributes.input.payloads
            found = await client.data_converter.decode(given[:1], [Mission])
            return Mission.model_validate(found[0])
    except RPCError as error:
        raise RefusedError(
            f"the server does not know mission {mission!r} any more "
            f"({error.message}): start it anew under another id"
        ) from None
    raise RefusedError(f"mission {mission!r} has no history")


def _past(books: Books, mission: Mission, report: Report, redrive: Redrive) -> Past:
    """
    Put together where the mission stands: its plan is what was asked for and what its
    agents have added.
    """
    asked_for = books.follow_ups(mission.id)
    ended = {each.id for each in report.tasks}
    added = {
        task.id: (task, author) for author in asked_for for task in asked_for[author]
    }
    more = [task for task, _ in added.values() if task.id in ended]
    return Past(
        added=more,
        authors={name: author for name, (_, author) in added.items() if name in ended},
        outcomes=report.tasks,
        redrive=redrive,
    )
