"""
The starter's verb for what waits: for a worker, for a person's leave, or for a look.
"""

import asyncio
import json
from dataclasses import asdict, dataclass

from outlast.cli.home import open_store
from outlast.cli.letters import known, progress
from outlast.contracts.errors import UnavailableError
from outlast.contracts.models import Progress, Status
from outlast.store.books import Books, Entry


@dataclass(frozen=True)
class Parked:
    """
    A task that waits.

    :param then: what a person can do about it.
    """

    mission: str
    task: str
    waits: str
    then: str


def show_parked(mission: str | None, as_json: bool) -> None:
    """
    Print what waits, of one mission or of all.
    """
    books = Books(open_store())
    entries = books.entries() if mission is None else [known(books, mission)]
    found = asyncio.run(_parked(entries))
    if as_json:
        print(json.dumps([asdict(each) for each in found], ensure_ascii=False))
        return
    for each in found:
        print(f"{each.mission}  task {each.task}  waits: {each.waits}")
        print(f"    {choices(each.then)}")
    if not found:
        print("nothing is parked")


def choices(then: str) -> str:
    """
    Spell out for a person what can be typed, one whole command for each choice.
    """
    if "approve|reject" not in then:
        return then
    words = [then.replace("approve|reject", each) for each in ("approve", "reject")]
    return ", or ".join(words)


async def _parked(entries: list[Entry]) -> list[Parked]:
    found: list[Parked] = []
    for entry in entries:
        if entry.report is not None:
            found += _left(entry)
            continue
        try:
            found += waiting(await progress(entry.id))
        except UnavailableError as error:
            found.append(Parked(entry.id, "?", str(error), "start workers"))
    return found


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
            then=f"starter.py redrive {entry.id} --task {task.id}",
        )
        for task in entry.report.tasks
        if task.status is Status.PARKED
    ]


def waiting(progress: Progress) -> list[Parked]:
    """
    List what waits in a mission under way.
    """
    asked = {each.id: each for each in progress.asked}
    found = []
    for running in progress.running:
        if running.id in asked:
            about = asked[running.id].about
            leave = f"starter.py approve|reject {progress.mission} {running.id}"
            waits = f"{running.waits}: {about}" if about else running.waits
            found.append(Parked(progress.mission, running.id, waits, leave))
        elif running.waits:
            back = "goes on by itself as soon as a worker plays it"
            found.append(Parked(progress.mission, running.id, running.waits, back))
    return found
