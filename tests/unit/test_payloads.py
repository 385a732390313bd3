"""
What is too large to travel lies in the store, and comes back as it was.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lease_fakes import Shelf
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)
from unit_fakes import (
    MISSION,
    ROLE,
    Stage,
    assignment,
    contents,
    mission,
    report,
    told_in_one_sentence,
)

from outlast.agents.agent import Degraded
from outlast.agents.context import Context
from outlast.cli.batch_results import result_lines
from outlast.cli.session import Session
from outlast.contracts.batches import ItemRange
from outlast.contracts.child_missions import MISSION_ROLE, child_mission
from outlast.contracts.errors import BadInputError, CheckpointError, GiveUp, StoreError
from outlast.contracts.inputs import InputStorage
from outlast.contracts.reports import MissionStatus
from outlast.contracts.results import FollowUps, ResultRef
from outlast.contracts.sizes import INPUT_BYTES, ITEM_BYTES, KIB, MIB, NEEDS_FACTOR
from outlast.contracts.tasks import Task
from outlast.execution.results import without_stored_inputs
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.ledger.payloads import put
from outlast.ledger.retention import forget_batch, forget_mission
from outlast.process.json_output import print_json_rows
from outlast.store.database import Store
from outlast.temporal.conversion import CONVERTER, INLINE
from outlast.temporal.payload_storage import StoreDriver

LARGE = {"text": "中" * ITEM_BYTES}
TARGET = StorageDriverWorkflowInfo(namespace="default", id=MISSION)


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(4) as threads:
        yield Stage(ledger, threads)


def payload(value: Any) -> Payload:
    return CONVERTER.payload_converter.to_payloads([value])[0]


async def kept(driver: StoreDriver, *payloads: Payload) -> list[StorageDriverClaim]:
    return await driver.store(StorageDriverStoreContext(TARGET), payloads)


# Payloads of Temporal's


async def test_a_large_payload_comes_back_as_it_was(store: Store) -> None:
    """
    What travels instead is small, and the same payload twice is one row.
    """
    driver = StoreDriver(lambda: store)
    given = [payload(LARGE), payload([1]), payload(LARGE)]
    claims = await kept(driver, *given)
    assert await driver.retrieve(StorageDriverRetrieveContext(), claims) == given
    assert len(contents(store)["payloads"]) == 2
    assert len(json.dumps(dict(claims[0].claim_data))) < 200


async def test_a_forgotten_payload_is_told_in_one_sentence(store: Store) -> None:
    """
    With the mission and the store: it may be another mission's store.
    """
    driver = StoreDriver(lambda: store)
    gone = StorageDriverClaim({"mission": MISSION, "digest": "0" * 64})
    with pytest.raises(StoreError, match=MISSION) as refusal:
        await driver.retrieve(StorageDriverRetrieveContext(), [gone])
    told_in_one_sentence(refusal.value)


def test_what_nobody_keeps_is_not_put_into_the_store(store: Store) -> None:
    """
    A query's answer, asked for every moment, would fill it; nor what has no owner,
    which nobody would ever delete.
    """
    driver = StoreDriver(lambda: store)
    owned = StorageDriverSelectContext(TARGET)
    answer = payload(LARGE)
    assert driver.choose(owned, answer) is driver
    assert driver.choose(StorageDriverSelectContext(None), answer) is None
    answer.metadata[INLINE] = b"true"
    assert driver.choose(owned, answer) is None


def test_payloads_go_with_their_mission(store: Store) -> None:
    """
    Forgotten with it, and with no other.
    """
    books = MissionRecords(store)
    for each in (MISSION, "other"):
        books.open(mission(id=each))
        books.close(report(each, MissionStatus.COMPLETED))
        with store.write() as connection:
            put(connection, each, b"large")
    forget_mission(store, MISSION)
    assert [row[0] for row in contents(store)["payloads"]] == ["other"]


# Results


async def test_a_large_result_reaches_who_needs_it(stage: Stage) -> None:
    """
    What travels of it says how large it is.
    """
    answered = await stage.play(lambda given, ctx: LARGE, name="first")
    assert answered.size > 3 * ITEM_BYTES
    assert len(answered.model_dump_json()) < KIB
    seen: dict[str, Any] = {}
    await stage.play(
        lambda given, ctx: seen.update(given["needs"]), name="next", needs=["first"]
    )
    assert seen == {"first": LARGE}
    assert MissionRecords(stage.ledger.store).results(MISSION)["first"] == LARGE


async def test_needs_are_added_up(stage: Stage) -> None:
    """
    Each is within the cap, all of them together are more than one attempt may be given:
    said once, with what to do.
    """
    stage.ledger.store.largest = 64 * KIB
    names = [f"t{at}" for at in range(NEEDS_FACTOR + 1)]
    for each in names:
        await stage.play(lambda given, ctx: "x" * 65_000, name=each)
    with pytest.raises(GiveUp, match=f"{NEEDS_FACTOR + 1} results") as refusal:
        await stage.play(lambda given, ctx: 1, name="all", needs=names)
    assert "sum them up" in told_in_one_sentence(refusal.value)
    await stage.play(lambda given, ctx: 1, name="most", needs=names[1:])


async def test_progress_over_the_cap_is_refused(stage: Stage) -> None:
    """
    In one sentence, and no attempt more: it would save as much.
    """
    stage.ledger.store.largest = 64 * KIB

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save("é" * 40_000)

    with pytest.raises(CheckpointError, match="over the cap") as refusal:
        await stage.play(play)
    told_in_one_sentence(refusal.value)


# Inputs of tasks


def test_a_small_input_stays_where_it_is() -> None:
    """
    Whoever looks at a plan reads it there.
    """
    moving = InputStorage(MISSION)
    task = Task(id="a", role=ROLE, input={"text": "x" * (INPUT_BYTES - 20)})
    assert moving.stored([task]) == [task]
    assert not moving.bodies


def test_a_large_input_is_moved(store: Store) -> None:
    """
    Counted in bytes; the task says where it lies.
    """
    moving = InputStorage(MISSION)
    (task,) = moving.stored([Task(id="a", role=ROLE, input={"text": "中" * 2_000})])
    assert task.input == {}
    assert task.stored is not None
    assert task.stored.size == len(moving.bodies[0]) > 6_000


def test_inputs_within_a_mission_within_are_moved() -> None:
    """
    They lie beside those of the mission around it.
    """
    inner = {"id": "b", "role": ROLE, "input": {"text": "x" * 9_000}}
    outer = Task(id="a", role=MISSION_ROLE, input={"goal": "g", "tasks": [inner]})
    moving = InputStorage(MISSION)
    (task,) = moving.stored([outer])
    child = child_mission(mission(task), task)
    assert child.tasks[0].stored is not None
    assert child.tasks[0].stored.owner == MISSION
    assert len(task.model_dump_json()) < KIB


def test_an_input_over_the_cap_is_refused() -> None:
    """
    Before anything starts, naming the task and the setting.
    """
    task = Task(id="a", role=ROLE, input={"text": "é" * MIB})
    with pytest.raises(BadInputError, match=r"'a' has .*OUTLAST_LARGEST_MB") as refusal:
        InputStorage(MISSION, largest=MIB).stored([task])
    told_in_one_sentence(refusal.value)


async def test_follow_ups_reach_their_agents_with_large_inputs(stage: Stage) -> None:
    """
    90 tasks of 30 KB: what travels of the answer is small.
    """
    more = [
        Task(id=f"f{at}", role=ROLE, input={"pad": f"{at}" * 15_000})
        for at in range(10, 100)
    ]
    answered = await stage.play(lambda given, ctx: FollowUps(result=1, tasks=more))
    assert len(answered.model_dump_json()) < 32 * KIB
    seen: list[Any] = []
    last = answered.follow_ups[-1]
    await stage.play(
        lambda given, ctx: seen.append(given), name=last.id, stored=last.stored
    )
    assert seen == [more[-1].input]


async def test_a_lost_input_gives_the_task_up(stage: Stage) -> None:
    """
    No attempt would find it.
    """
    (task,) = InputStorage(MISSION).stored(
        [Task(id="a", role=ROLE, input={"x": "y" * 9_000})]
    )
    with pytest.raises(GiveUp, match="not in the store"):
        await stage.play(lambda given, ctx: 1, stored=task.stored)


@pytest.mark.parametrize(
    "tasks",
    [
        [Task(id="a", role=ROLE)] * 101,
        [Task(id="a", role=ROLE, input={"text": "x" * 2 * MIB})],
        [Task(id="a", role=ROLE, input={"text": "\ud800"})],
        [Task(id="a", role=ROLE, needs=["n" * 100] * 200_000)],
    ],
    ids=["too many", "too large", "no text", "too large together"],
)
def test_follow_ups_that_cannot_be_kept_are_refused_once(tasks: list[Task]) -> None:
    """
    Before the answer is recorded: afterwards it could not be told to anybody.
    """
    answer = ResultRef(digest="", attempt=1, follow_ups=tasks)
    with pytest.raises(GiveUp) as refusal:
        without_stored_inputs(answer, assignment(), largest=MIB)
    told_in_one_sentence(refusal.value)


# Items


@pytest.fixture
def shelf(store: Store) -> Shelf:
    return Shelf(store)


def test_large_items_and_results_come_back(shelf: Shelf) -> None:
    """
    They lie beside rows that are read with a thousand others.
    """
    shelf.add({"n": 1}, LARGE)
    rows = contents(shelf.store)
    assert max(len(row[3]) for row in rows["items"]) < 100
    every = ItemRange(start=1, stop=1_000)
    found = json.loads(shelf.items.read(shelf.name, every, 10))
    ((_, small), (_, large)) = found
    assert json.loads(shelf.items.full_body(shelf.name, large)) == LARGE
    assert shelf.items.full_body(shelf.name, small) == small
    shelf.write({1: "small", 2: LARGE})
    assert shelf.results() == {1: "small", 2: LARGE}
    (first, second) = shelf.outcomes.settled_after(shelf.name, 0)
    assert (first.result, second.input, second.result) == ("small", LARGE, LARGE)


def test_the_first_large_result_stands(shelf: Shelf) -> None:
    """
    As of small ones; and a dead letter has none.
    """
    shelf.add({"n": 1}, {"n": 2})
    shelf.fail(2)
    shelf.write({1: LARGE})
    shelf.write({1: [LARGE, 2], 2: LARGE})
    assert shelf.results() == {1: LARGE}


def test_what_looks_like_a_reference_is_a_result(shelf: Shelf) -> None:
    """
    No JSON can be taken for one.
    """
    shelf.add({"n": 1})
    shelf.write({1: "@" + "0" * 64})
    assert shelf.results() == {1: "@" + "0" * 64}


def test_the_same_large_item_twice_is_one(shelf: Shelf) -> None:
    """
    They differ by content, however large.
    """
    shelf.add(LARGE)
    shelf.add(LARGE, {**LARGE, "more": 1})
    assert [number for number, _ in shelf.pending()] == [1]
    assert shelf.batches.count(shelf.name).items == 2


def test_a_page_of_large_results_is_short(shelf: Shelf) -> None:
    """
    500 of them may be more than memory holds.
    """
    shelf.add(*({"n": at} for at in range(1, 6)))
    shelf.write({at: str(at) * 9 * MIB for at in range(1, 6)})
    page = shelf.outcomes.settled_after(shelf.name, 0)
    assert [each.item for each in page] == [1, 2]
    rest = shelf.outcomes.settled_after(shelf.name, 2)
    assert [each.item for each in rest] == [3, 4]


def test_large_items_go_with_their_batch(shelf: Shelf) -> None:
    """
    Nothing of them is left.
    """
    shelf.add(LARGE)
    shelf.write({1: LARGE})
    forget_batch(shelf.store, shelf.name)
    assert contents(shelf.store)["payloads"] == []


def test_a_large_dead_letter_is_told(shelf: Shelf) -> None:
    """
    With all of its input.
    """
    shelf.add(LARGE)
    shelf.fail(1)
    assert shelf.dead()[1].input == LARGE


async def test_a_large_degraded_result_is_kept(stage: Stage) -> None:
    """
    The reason travels, the result does not.
    """
    answered = await stage.play(lambda given, ctx: Degraded(LARGE, "half"))
    assert answered.degraded == ["half"]
    assert stage.result() == LARGE


# Reading them back


async def test_large_results_are_printed_one_by_one(stage: Stage) -> None:
    """
    Of a mission as of a batch, in letters that every pipe takes.
    """
    store = stage.ledger.store
    MissionRecords(store).open(mission())
    await stage.play(lambda given, ctx: LARGE, name="one")
    await stage.play(lambda given, ctx: 2, name="two")
    lines = list(result_lines(Session(store), MISSION))
    assert all(line.isascii() for line in lines)
    assert [json.loads(line) for line in lines] == [
        {"task": "one", "result": LARGE},
        {"task": "two", "result": 2},
    ]


def test_large_results_of_a_batch_are_printed(shelf: Shelf) -> None:
    """
    Those that lie beside their rows too.
    """
    shelf.add({"n": 1}, {"n": 2})
    shelf.write({1: 1, 2: LARGE})
    lines = [
        json.loads(line) for line in result_lines(Session(shelf.store), shelf.name)
    ]
    assert lines == [{"item": 1, "result": 1}, {"item": 2, "result": LARGE}]


def test_rows_of_an_answer_are_printed_as_they_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    As one line of JSON, without all of them in memory.
    """
    print_json_rows({"mission": "m"}, "tasks", iter([{"id": "a"}, {"id": "b"}]))
    print_json_rows({"mission": "m"}, "tasks", iter([]))
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [{"id": "a"}, {"id": "b"}]
    assert told == [{"mission": "m", "tasks": rows}, {"mission": "m", "tasks": []}]
