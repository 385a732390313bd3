"""
The starter's verbs for what was given up: list it with its cause, and do it again.
"""

import asyncio
import json
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any

from outlast.cli import batch_results
from outlast.cli.follow import explain_no_answer, snapshot
from outlast.cli.run_mission import (
    connect_default,
    reconciled,
    require_local_workers,
    update,
)
from outlast.cli.stores import open_store
from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.contracts.ids import mesh_run_of
from outlast.contracts.reports import MissionProgress, Outcome, TaskStatus
from outlast.ledger.item_results import DeadLetter, ItemResults
from outlast.ledger.missions import MissionRecord, MissionRecords
from outlast.process.called import as_called, tell
from outlast.store.database import Store
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.reconcile import interrupted
from outlast.temporal.redrive import restart_mission, select_redrive


@dataclass(frozen=True)
class DeadTask:
    """
    A task that was given up.

    :param saved: the number of the last step that it had saved.
    """

    mission: str
    task: str
    role: str
    cause: str
    attempts: int
    saved: int
    redrive: str


def show_dead_letters(name: str | None, as_json: bool, traces: bool = False) -> None:
    """
    Print the tasks and items that were given up, of one mission or batch or of all.

    :param traces: with the tracebacks of items; those of tasks are in their missions'
        stories.
    """
    store = open_store()
    tasks = (
        []
        if name and batch_results.is_batch(name, store)
        else _dead_tasks(MissionRecords(store), name)
    )
    found = list(ItemResults(store).dead_letters(name))
    if as_json:
        told = [*map(asdict, tasks), *(item_json(each, traces) for each in found)]
        print(json.dumps(told))
        return
    for letter in tasks:
        tell(f"{letter.mission}  task {letter.task}  {letter.cause}")
        print(f"    after step {letter.saved}; again with: {letter.redrive}")
    for each in found:
        tell(f"{each.batch}  item {each.item}  {each.cause}")
        tell(f"    again with: outlast redrive {each.batch} --item {each.item}")
        if traces and each.traceback:
            print(indent(each.traceback.rstrip(), "    "))
    if not tasks and not found:
        print("no dead letters")


def item_json(letter: DeadLetter, traces: bool) -> dict[str, Any]:
    """
    Tell a dead letter to a program, with its traceback where that was asked for.
    """
    told = asdict(letter)
    if not traces:
        del told["traceback"]
    return told


def redrive_dead(
    name: str, task: str | None, item: int | None, cause: str | None
) -> None:
    """
    Redrive dead letters of a batch or a mission.
    """
    require_local_workers()
    store = open_store()
    if batch_results.is_batch(name, store):
        if task is not None:
            raise BadInputError(f"{name} is a batch: it has items, not tasks")
        batch_results.redrive_items(name, item, cause, store)
        return
    if item is not None or cause is not None:
        raise BadInputError(f"{name} is no batch: it has tasks, not items")
    asyncio.run(_redrive_mission(name, task, store))


async def _redrive_mission(mission: str, task: str | None, store: Store) -> None:
    books = MissionRecords(store)
    await reconciled(mission)
    entry = require_mission(books, mission)
    if entry.interruption:
        raise BadInputError(interrupted(mission, entry.interruption))
    if entry.report is not None:
        _require_no_mesh_run(mission)
    client = await connect_default()
    await require_known_server(client, store)
    if entry.report is not None:
        again = select_redrive(books, mission, entry.report.tasks, task)
        await restart_mission(client, books, entry.report, again)
        print(f"{mission}: goes on with {', '.join(again.tasks)}")
        tell(f"follow with: outlast status {mission}")
        return
    again = select_redrive(
        books, mission, (await mission_progress(mission)).settled, task
    )
    await update(client, mission, "redrive", again)


def _require_no_mesh_run(mission: str) -> None:
    """
    One that has ended is out of the mesh's hands: nobody would hold it, or hear of its
    end.

    :raises BadInputError: in one sentence.
    """
    if mesh_run_of(mission):
        raise BadInputError(
            f"{mission} was run for the mesh, which would not hear of its new end: "
            "submit the mission under another id with outlast mesh submit"
        )


def require_mission(books: MissionRecords, mission: str) -> MissionRecord:
    """
    Look *mission* up.

    :raises BadInputError: when the ledger does not have it.
    """
    entry = books.find(mission)
    if entry is None:
        raise BadInputError(f"no mission or batch {mission!r} is in the store")
    return entry


async def mission_progress(mission: str) -> MissionProgress:
    """
    Ask a mission under way how far it is.

    :raises UnavailableError: when no workflow process answers, or the server does not
        know it.
    """
    handle = (await connect_default()).get_workflow_handle(mission)
    view = await snapshot(handle)
    if view is None:
        raise UnavailableError(f"{mission}: {await explain_no_answer(handle)}")
    return view.progress


def _dead_tasks(books: MissionRecords, mission: str | None) -> list[DeadTask]:
    entries = books.records() if mission is None else [require_mission(books, mission)]
    return [
        _dead_task(books, entry.id, outcome)
        for entry in entries
        for outcome in _ended_outcomes(entry, asked=mission is not None)
        if outcome.status is TaskStatus.DEAD
    ]


def _ended_outcomes(entry: MissionRecord, asked: bool) -> list[Outcome]:
    """
    The tasks of a mission that have ended; of one under way if it was *asked* for.
    """
    if entry.report is not None:
        return entry.report.tasks
    asked = asked and not entry.interruption
    return asyncio.run(mission_progress(entry.id)).settled if asked else []


def _dead_task(books: MissionRecords, mission: str, outcome: Outcome) -> DeadTask:
    saved = books.checkpoints(mission).get(outcome.id)
    return DeadTask(
        mission=mission,
        task=outcome.id,
        role=outcome.role,
        cause="; ".join(outcome.reasons),
        attempts=outcome.attempts,
        saved=saved.seq if saved else 0,
        redrive=as_called(f"outlast redrive {mission} --task {outcome.id}"),
    )
