"""
Progress that leaves one peer's ledger and goes on in another's.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from unit_fakes import MISSION, Clock, Stage, task

from outlast.agents.context import Context
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import MeshRunId
from outlast.contracts.mesh_timing import MESH_EVENT_BYTES
from outlast.contracts.results import FanOut, Redo
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.ledger.ledger import Ledger
from outlast.mesh.core.events import CheckpointSaved, Progressed, SubtaskFinished
from outlast.mesh.node.handover import (
    READ_MARGIN_S,
    ProgressReader,
    current,
    import_progress,
)
from outlast.store.database import Store

RUNS = {MISSION: MeshRunId("job", 1)}


class Notes(BaseModel):
    lines: list[str] = []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def here(store: Store, clock: Clock) -> Iterator[Stage]:
    with ThreadPoolExecutor(2) as threads:
        yield Stage(Ledger(store, clock=clock), threads)


@pytest.fixture
def there(tmp_path: Path, built_file: Path) -> Iterator[Stage]:
    """
    Another peer's ledger.
    """
    copy = tmp_path / "there.db"
    copy.write_bytes(built_file.read_bytes())
    store = Store(copy)
    with ThreadPoolExecutor(2) as threads:
        yield Stage(Ledger(store), threads)
    store.close()


@pytest.fixture
def watch(here: Stage, clock: Clock) -> ProgressReader:
    return ProgressReader(here.ledger.store, clock)


async def break_after(stage: Stage, *saved: Notes) -> None:
    async def play(given: dict[str, Any], ctx: Context) -> None:
        for each in saved:
            await ctx.save(each)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the agent's own
        await stage.play(play)


async def notes(given: dict[str, Any], ctx: Context) -> list[str]:
    return (await ctx.resume(Notes, Notes(lines=["nothing"]))).lines


def hand_over(reached: Progressed, there: Stage) -> None:
    import_progress(there.ledger.store, MISSION, [reached])


@pytest.mark.parametrize(
    "line",
    ["short", "x" * CHECKPOINT_BYTES],
    ids=["in the checkpoint", "beside it"],
)
async def test_a_task_goes_on_in_another_ledger(
    here: Stage, there: Stage, watch: ProgressReader, line: str
) -> None:
    """
    From its last checkpoint, also where that is too large for a heartbeat.
    """
    await break_after(here, Notes(), Notes(lines=[line]))
    (reached,) = watch.read(RUNS)
    hand_over(reached, there)
    await there.play(notes)
    assert there.result() == [line]


async def test_what_is_done_is_not_done_again(
    here: Stage, there: Stage, watch: ProgressReader
) -> None:
    """
    A result is found where the task would have been played.
    """
    called = []

    async def play(given: dict[str, Any], ctx: Context) -> str:
        called.append(ctx.key)
        return "done"

    first = await here.play(play)
    (reached,) = watch.read(RUNS)
    hand_over(reached, there)
    second = await there.play(play)
    assert second.digest == first.digest
    assert len(called) == 1
    assert there.result() == "done"


async def test_progress_is_told_once_and_the_newest_only(
    here: Stage, watch: ProgressReader, clock: Clock
) -> None:
    """
    Nothing of what runs elsewhere, and nothing twice.
    """
    await break_after(here, Notes(lines=["1"]), Notes(lines=["1", "2"]))
    assert watch.read({"other": MeshRunId("other", 1)}) == []
    (first,) = watch.read(RUNS)
    assert isinstance(first, CheckpointSaved)
    assert first.checkpoint.seq == 2
    assert watch.read(RUNS) == []
    clock.turn(READ_MARGIN_S + 1)
    await break_after(here, Notes(lines=["3"]))
    (then,) = watch.read(RUNS)
    assert isinstance(then, CheckpointSaved)
    assert then.checkpoint.value == {"lines": ["3"]}


async def test_what_is_too_large_to_travel_stays(
    here: Stage, watch: ProgressReader
) -> None:
    """
    Its checkpoint names a text that only this store has, which the core passes over.
    """
    await break_after(here, Notes(lines=["x" * (MESH_EVENT_BYTES + 1)]))
    (reached,) = watch.read(RUNS)
    assert isinstance(reached, CheckpointSaved)
    assert reached.checkpoint.blob is not None


async def test_a_spread_stays_too(here: Stage, watch: ProgressReader) -> None:
    """
    Its items lie in this store alone, so its task is to be played again elsewhere.
    """

    async def play(given: dict[str, Any], ctx: Context) -> FanOut:
        return FanOut(role="counter", items=[{"n": 1}])

    await here.play(play)
    assert watch.read(RUNS) == []


async def test_a_rejection_stays_too(here: Stage, watch: ProgressReader) -> None:
    """
    It was said of a draft that is written anew: elsewhere it would reject that one.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Redo:
        return Redo(task="write", reason="poor")

    await here.play(play)
    assert watch.read(RUNS) == []


def part(
    name: str, round_: int = 1, epoch: int = 1, done: bool = True, asks: str = ""
) -> CheckpointSaved | SubtaskFinished:
    """
    Make the progress of one part, which *asks* for a task that needs nothing.
    """
    told = {"task": "job", "epoch": epoch, "subtask": name, "round": round_}
    if not done:
        return CheckpointSaved(**told, checkpoint=Checkpoint(seq=1))
    follow_ups = [task(asks).model_dump(mode="json")] if asks else []
    answer = {"answer": {"follow_ups": follow_ups}, "result": None}
    return SubtaskFinished(**told, answer=json.dumps(answer))


PLAN = [task("find"), task("write", "find"), task("check", "write"), task("aside")]


@pytest.mark.parametrize(
    ("parts", "stay"),
    [
        ([part("find"), part("write"), part("check")], {"find", "write", "check"}),
        # find is done again in round 2: what was made of the first find is not current
        ([part("find", 2), part("write"), part("aside")], {"find", "aside"}),
        ([part("find", 2, done=False), part("check", done=False)], {"find"}),
        ([part("find", 2), part("write", 2), part("check")], {"find", "write"}),
        # another owner counts rounds from 1 again
        ([part("find", 2), part("write", epoch=2)], {"find", "write"}),
        ([part("find", epoch=2, done=False), part("write", 2)], {"find"}),
        # what a redone task had asked for it may ask for again, or not
        ([part("aside", asks="more"), part("more")], {"aside", "more"}),
        ([part("aside", 2, asks="more"), part("more")], {"aside"}),
        ([part("aside", 2, done=False), part("more")], {"aside"}),
    ],
)
def test_what_was_made_of_a_redone_part_is_done_again(
    parts: list[CheckpointSaved | SubtaskFinished], stay: set[str]
) -> None:
    """
    However far it lies behind, and its checkpoint too; what is current is kept.
    """
    assert {each.subtask for each in current(parts, PLAN)} == stay
