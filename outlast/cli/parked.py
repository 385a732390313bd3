"""
The starter's verb for what waits: for a worker, for a person's leave, or for a look.
A batch waits where nobody plays its agent: then all of its items do.
"""

import asyncio
import json
from dataclasses import asdict, dataclass, field

from outlast.cli.dead_letters import known, progress
from outlast.cli.run_mission import reach, reconciled
from outlast.cli.stores import open_store
from outlast.cli.workers import live_workers
from outlast.contracts.errors import UnavailableError
from outlast.contracts.ids import FanOutId, parse
from outlast.contracts.reports import Asked, Progress, Running, Status
from outlast.ledger.batches import INTERRUPTED, OPEN, Batches
from outlast.ledger.batches import Entry as Line
from outlast.ledger.missions import Books, Entry
from outlast.process.called import as_called, tell
from outlast.temporal.reconcile import ENDED_BY_OTHERS

BACK = "goes on by itself as soon as a worker plays it"


@dataclass(frozen=True)
class Parked:
    """
    A task that waits, or a batch, which has none.

    :param commands: of which a person can paste one; none where it goes on by itself.
    :param effects: what it wants approved, one line each.
    """

    mission: str
    task: str
    waits: str
    commands: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)


def show_parked(mission: str | None, as_json: bool) -> None:
    """
    Print what waits, of one mission or of all.
    """
    asyncio.run(reconciled(*([mission] if mission else [])))
    store = open_store()
    books = Books(store)
    entries = books.entries() if mission is None else [known(books, mission)]
    batches = open_batches(Batches(store), mission)
    found = asyncio.run(_parked(entries, batches))
    if as_json:
        print(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        task = f"  task {each.task}" if each.task else ""
        tell(f"{each.mission}{task}  waits: {each.waits}")
        for told in each.effects:
            print(f"    {told}")
        print(f"    {what_to_do(each)}")
    if not found:
        print("nothing is parked")


def what_to_do(parked: Parked) -> str:
    """
    Say what can be done about what waits.
    """
    return ", or ".join(parked.commands) or BACK


async def _parked(entries: list[Entry], batches: list[Line]) -> list[Parked]:
    found: list[Parked] = []
    for entry in entries:
        if entry.interruption:
            found.append(_given_up(entry.id, entry.interruption))
            continue
        if entry.report is not None:
            found += _left(entry)
            continue
        try:
            found += waiting(await progress(entry.id))
        except UnavailableError as error:
            look = [as_called(f"outlast status {entry.id}")]
            found.append(Parked(entry.id, "?", str(error), look))
    ended = [each for each in batches if each.state == INTERRUPTED]
    found += [_given_up(each.id, ENDED_BY_OTHERS) for each in ended]
    at_work = [each for each in batches if each.state == OPEN]
    return found + await _unplayed(at_work) if at_work else found


async def _unplayed(batches: list[Line]) -> list[Parked]:
    try:
        live = {each.role for each in await live_workers(await reach())}
    except UnavailableError as error:
        why = str(error)
        return [
            Parked(each.id, "", why, [as_called("outlast-worker")]) for each in batches
        ]
    return unplayed_batches(batches, live)


def open_batches(batches: Batches, mission: str | None) -> list[Line]:
    """
    List the batches that have not ended: all, or those that *mission* has spread.
    """
    return [
        each
        for each in batches.entries()
        if each.state in (OPEN, INTERRUPTED)
        and (mission is None or _is_of(each.id, mission))
    ]


def _is_of(batch: str, mission: str) -> bool:
    fan_out = parse(FanOutId, batch)
    return batch == mission or (fan_out is not None and fan_out.mission == mission)


def unplayed_batches(batches: list[Line], live: set[str]) -> list[Parked]:
    """
    List those of *batches* whose agent is none of the *live* roles.
    """
    return [
        Parked(each.id, "", f"{each.role}: no live worker takes its items")
        for each in batches
        if each.role not in live
    ]


def _left(entry: Entry) -> list[Parked]:
    """
    What a mission that has ended had to leave to a person.
    """
    assert entry.report is not None
    return [
        Parked(
            mission=entry.id,
            task=task.id,
            waits="; ".join(task.reasons),
            commands=[as_called(f"outlast redrive {entry.id} --task {task.id}")],
        )
        for task in entry.report.tasks
        if task.status is Status.PARKED
    ]


def _given_up(name: str, why: str) -> Parked:
    """
    A mission or batch whose workflow was ended by others waits for a person.
    """
    both = [as_called(f"outlast {verb} {name}") for verb in ("resume", "abandon")]
    return Parked(name, "", why, both)


def waiting(progress: Progress) -> list[Parked]:
    """
    List what waits in a mission under way.
    """
    asked = {each.id: each for each in progress.asked}
    found = []
    for running in progress.running:
        if running.id in asked:
            found.append(_asking(progress.mission, running, asked[running.id]))
        elif running.waits:
            found.append(Parked(progress.mission, running.id, running.waits))
    return found


def _asking(mission: str, running: Running, asked: Asked) -> Parked:
    """
    What a task asks a person, with the command that answers what was seen.
    """
    several = len(asked.effects) > 1
    answer = asked.answer(mission)
    commands = [as_called(f"outlast {verb} {answer}") for verb in ("approve", "reject")]
    if any(each.recorded for each in asked.effects):
        commands.append(f"{commands[0]} --skip  # the earlier effect stands")
    return Parked(
        mission=mission,
        task=running.id,
        waits=running.waits,
        commands=commands,
        effects=[each.about for each in asked.effects] if several else [],
    )
