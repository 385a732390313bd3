"""
The starter's verb for what waits: for a worker, for a person's leave, or for a look.
A batch waits where nobody plays its agent: then all of its items do.
"""

import asyncio
import json
from dataclasses import asdict, dataclass, field

from outlast.cli.dead_letters import mission_progress, require_mission
from outlast.cli.run_mission import connect_default, reconciled
from outlast.cli.stores import open_store
from outlast.cli.workers import list_rows
from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.errors import UnavailableError
from outlast.contracts.ids import FanOutId, parse
from outlast.contracts.reports import MissionProgress, RunningTask, TaskStatus
from outlast.ledger.batches import INTERRUPTED, OPEN, BatchRecord, BatchRecords
from outlast.ledger.missions import MissionRecord, MissionRecords
from outlast.process.called import as_called, tell
from outlast.temporal.reconcile import ENDED_OUTSIDE

CONTINUES_BY_ITSELF = "goes on by itself as soon as a worker plays it"


@dataclass(frozen=True)
class ParkedItem:
    """
    A task that waits, or a batch, which has none.

    :param commands: of which a person can paste one; none where it goes on by itself.
    :param effects: what it wants approved, one line each.
    """

    mission: str
    task: str
    waiting_for: str
    commands: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)


def show_parked(mission: str | None, as_json: bool) -> None:
    """
    Print what waits, of one mission or of all.
    """
    asyncio.run(reconciled(*([mission] if mission else [])))
    store = open_store()
    books = MissionRecords(store)
    entries = books.records() if mission is None else [require_mission(books, mission)]
    batches = open_batches(BatchRecords(store), mission)
    found = asyncio.run(_parked(entries, batches))
    if as_json:
        print(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        task = f"  task {each.task}" if each.task else ""
        tell(f"{each.mission}{task}  waits: {each.waiting_for}")
        for told in each.effects:
            print(f"    {told}")
        print(f"    {what_to_do(each)}")
    if not found:
        print("nothing is parked")


def what_to_do(parked: ParkedItem) -> str:
    """
    Say what can be done about what waits.
    """
    return ", or ".join(parked.commands) or CONTINUES_BY_ITSELF


async def _parked(
    entries: list[MissionRecord], batches: list[BatchRecord]
) -> list[ParkedItem]:
    found: list[ParkedItem] = []
    for entry in entries:
        if entry.interruption:
            found.append(_parked_batch(entry.id, entry.interruption))
            continue
        if entry.report is not None:
            found += _parked_tasks(entry)
            continue
        try:
            found += waiting_tasks(await mission_progress(entry.id))
        except UnavailableError as error:
            look = [as_called(f"outlast status {entry.id}")]
            found.append(ParkedItem(entry.id, "?", str(error), look))
    ended = [each for each in batches if each.state == INTERRUPTED]
    found += [_parked_batch(each.id, ENDED_OUTSIDE) for each in ended]
    at_work = [each for each in batches if each.state == OPEN]
    return found + await _unserved_batches(at_work) if at_work else found


async def _unserved_batches(batches: list[BatchRecord]) -> list[ParkedItem]:
    try:
        live = {each.role for each in await list_rows(await connect_default())}
    except UnavailableError as error:
        why = str(error)
        return [
            ParkedItem(each.id, "", why, [as_called("outlast-worker")])
            for each in batches
        ]
    return unserved_batches(batches, live)


def open_batches(batches: BatchRecords, mission: str | None) -> list[BatchRecord]:
    """
    List the batches that have not ended: all, or those that *mission* has spread.
    """
    return [
        each
        for each in batches.records()
        if each.state in (OPEN, INTERRUPTED)
        and (mission is None or _is_of(each.id, mission))
    ]


def _is_of(batch: str, mission: str) -> bool:
    fan_out = parse(FanOutId, batch)
    return batch == mission or (fan_out is not None and fan_out.mission == mission)


def unserved_batches(batches: list[BatchRecord], live: set[str]) -> list[ParkedItem]:
    """
    List those of *batches* whose agent is none of the *live* roles.
    """
    return [
        ParkedItem(each.id, "", f"{each.role}: no live worker takes its items")
        for each in batches
        if each.role not in live
    ]


def _parked_tasks(entry: MissionRecord) -> list[ParkedItem]:
    """
    What a mission that has ended had to leave to a person.
    """
    assert entry.report is not None
    return [
        ParkedItem(
            mission=entry.id,
            task=task.id,
            waiting_for="; ".join(task.reasons),
            commands=[as_called(f"outlast redrive {entry.id} --task {task.id}")],
        )
        for task in entry.report.tasks
        if task.status is TaskStatus.PARKED
    ]


def _parked_batch(name: str, why: str) -> ParkedItem:
    """
    A mission or batch whose workflow was ended by others waits for a person.
    """
    both = [as_called(f"outlast {verb} {name}") for verb in ("resume", "abandon")]
    return ParkedItem(name, "", why, both)


def waiting_tasks(progress: MissionProgress) -> list[ParkedItem]:
    """
    List what waits in a mission under way.
    """
    asked = {each.id: each for each in progress.approval_requests}
    found = []
    for running in progress.running:
        if running.id in asked:
            found.append(_approval_item(progress.mission, running, asked[running.id]))
        elif running.waiting_for:
            found.append(ParkedItem(progress.mission, running.id, running.waiting_for))
    return found


def _approval_item(
    mission: str, running: RunningTask, asked: ApprovalRequest
) -> ParkedItem:
    """
    What a task asks a person, with the command that answers what was seen.
    """
    several = len(asked.effects) > 1
    answer = asked.command(mission)
    commands = [as_called(f"outlast {verb} {answer}") for verb in ("approve", "reject")]
    if any(each.recorded for each in asked.effects):
        commands.append(f"{commands[0]} --skip  # the earlier effect stands")
    return ParkedItem(
        mission=mission,
        task=running.id,
        waiting_for=running.waiting_for,
        commands=commands,
        effects=[each.describe for each in asked.effects] if several else [],
    )
