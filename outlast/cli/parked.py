"""
List what waits: for a worker, for a person's decision, or for a look. A batch waits
where no worker plays its agent: then all of its items do.
"""

import json
from dataclasses import asdict, dataclass, field

from outlast.cli.session import Session
from outlast.cli.snapshot import mission_progress
from outlast.cli.workers import list_rows
from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.errors import UnavailableError
from outlast.contracts.ids import FanOutId, parse
from outlast.contracts.progress import MissionProgress, RunningTask
from outlast.contracts.reports import Report, TaskStatus
from outlast.ledger.batches import INTERRUPTED, OPEN, BatchRecord, BatchRecords
from outlast.ledger.missions import MissionRecord
from outlast.process.called import as_called, tell
from outlast.temporal.workflow_state import ENDED_OUTSIDE

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


async def show_parked(session: Session, mission: str | None, as_json: bool) -> None:
    await session.reconcile(*([mission] if mission else []))
    found = [
        each
        for entry in session.mission_records(mission)
        for each in await _parked_of(session, entry)
    ] + await _parked_batches(session, open_batches(session.batches, mission))
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
    return ", or ".join(parked.commands) or CONTINUES_BY_ITSELF


async def _parked_of(session: Session, entry: MissionRecord) -> list[ParkedItem]:
    if entry.interruption:
        return [_interrupted_item(entry.id, entry.interruption)]
    if entry.report is not None:
        return _parked_tasks(entry.id, entry.report)
    try:
        client = await session.client()
        return waiting_tasks(await mission_progress(client, entry.id))
    except UnavailableError as error:
        look = [as_called(f"outlast status {entry.id}")]
        return [ParkedItem(entry.id, "?", str(error), look)]


async def _parked_batches(
    session: Session, batches: list[BatchRecord]
) -> list[ParkedItem]:
    ended = [each for each in batches if each.state == INTERRUPTED]
    found = [_interrupted_item(each.id, ENDED_OUTSIDE) for each in ended]
    at_work = [each for each in batches if each.state == OPEN]
    if not at_work:
        return found
    try:
        live = {each.role for each in await list_rows(await session.client())}
    except UnavailableError as error:
        why, start = str(error), [as_called("outlast-worker")]
        return found + [ParkedItem(each.id, "", why, start) for each in at_work]
    return found + unserved_batches(at_work, live)


def open_batches(batches: BatchRecords, mission: str | None) -> list[BatchRecord]:
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
    return [
        ParkedItem(each.id, "", f"{each.role}: no live worker takes its items")
        for each in batches
        if each.role not in live
    ]


def _parked_tasks(mission: str, report: Report) -> list[ParkedItem]:
    return [
        ParkedItem(
            mission=mission,
            task=task.id,
            waiting_for="; ".join(task.reasons),
            commands=[as_called(f"outlast redrive {mission} --task {task.id}")],
        )
        for task in report.tasks
        if task.status is TaskStatus.PARKED
    ]


def _interrupted_item(name: str, why: str) -> ParkedItem:
    """
    A mission or batch whose workflow was ended by others waits for a person.
    """
    both = [as_called(f"outlast {verb} {name}") for verb in ("resume", "abandon")]
    return ParkedItem(name, "", why, both)


def waiting_tasks(progress: MissionProgress) -> list[ParkedItem]:
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
