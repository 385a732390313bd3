"""
List what was given up, with its cause and how to do it again.
"""

import json
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any

from outlast.cli.session import Session
from outlast.cli.snapshot import mission_progress
from outlast.contracts.reports import Outcome, TaskStatus
from outlast.ledger.item_results import DeadLetter, ItemResults
from outlast.ledger.missions import MissionRecord
from outlast.process.called import as_called, tell


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


async def show_dead_letters(
    session: Session, name: str | None, as_json: bool, traces: bool = False
) -> None:
    """
    Print the tasks and items that were given up, of one mission or batch or of all.

    :param traces: with the tracebacks of items; `outlast explain` has those of tasks.
    """
    tasks = [] if name and session.is_batch(name) else await _dead_tasks(session, name)
    found = list(ItemResults(session.store).dead_letters(name))
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
    told = asdict(letter)
    if not traces:
        del told["traceback"]
    return told


async def _dead_tasks(session: Session, mission: str | None) -> list[DeadTask]:
    return [
        _dead_task(session, entry.id, outcome)
        for entry in session.mission_records(mission)
        for outcome in await _ended_outcomes(session, entry, mission is not None)
        if outcome.status is TaskStatus.DEAD
    ]


async def _ended_outcomes(
    session: Session, entry: MissionRecord, asked: bool
) -> list[Outcome]:
    """
    The tasks of a mission that have ended; of one under way if it was *asked* for.
    """
    if entry.report is not None:
        return entry.report.tasks
    if not asked or entry.interruption:
        return []
    return (await mission_progress(await session.client(), entry.id)).settled


def _dead_task(session: Session, mission: str, outcome: Outcome) -> DeadTask:
    saved = session.missions.checkpoints(mission).get(outcome.id)
    return DeadTask(
        mission=mission,
        task=outcome.id,
        role=outcome.role,
        cause="; ".join(outcome.reasons),
        attempts=outcome.attempts,
        saved=saved.seq if saved else 0,
        redrive=as_called(f"outlast redrive {mission} --task {outcome.id}"),
    )
