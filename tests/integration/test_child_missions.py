"""
Missions within missions, by child workflows.
"""

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel
from small_crew import BOUND_S, Crew, ended, task
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError
from test_supervisor import Input, for_ever, hopeless, outcome, well

from outlast import Context, FanOut, Redo
from outlast.contracts.batches import PoolProgress
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.plan import Plan
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.tasks import Limits, Task
from outlast.ledger.audit import audit_ledger
from outlast.ledger.missions import MissionRecords


def part(name: str, *tasks: Task, **more: Any) -> Task:
    inner = [each.model_dump(mode="json") for each in tasks]
    given = {"goal": "a part", "tasks": inner, **more.pop("given", {})}
    return task(name, "mission", input=given, **more)


class Needing(BaseModel):
    needs: dict[str, Any] = {}


async def test_a_task_may_be_a_mission(small_crew: Crew) -> None:
    """
    It is carried out by a child with books of its own, and its report is the result.
    """

    async def read(given: Needing, ctx: Context) -> Any:
        return given.needs["p"]

    small_crew.plays("well", well)
    small_crew.plays("read", read)
    report = await small_crew.run(
        part("p", task("a", "well"), part("q", task("b", "well"))),
        task("after", "read", needs=["p"]),
    )

    assert report.status is MissionStatus.COMPLETED
    books = MissionRecords(small_crew.store)
    assert books.results("m")["after"] == {
        "mission": "m~child~p",
        "status": "completed",
        "tasks": {"a": "done", "q": "done"},
    }
    assert books.results("m~child~p~child~q") == {"b": "well"}
    assert {each.state for each in books.records()} == {"completed"}
    assert audit_ledger(books.store).violations == []


@pytest.mark.parametrize(
    ("role", "status"), [("hopeless", TaskStatus.DEAD), ("judge", TaskStatus.PARKED)]
)
async def test_what_a_child_cannot_settle_comes_to_its_parent(
    small_crew: Crew, role: str, status: TaskStatus
) -> None:
    """
    A child that failed, or that a person must look at, ends its task so, with why.
    """

    async def judge(given: Input, ctx: Context) -> Redo:
        return Redo(task="a", reason="poor")

    small_crew.plays("well", well)
    small_crew.plays("hopeless", hopeless)
    small_crew.plays("judge", judge)
    inner = [task("a", "well"), task("b", role, needs=["a"])]
    report = await small_crew.run(part("p", *inner))

    assert outcome(report, "p").status is status
    assert "its mission m~child~p is" in outcome(report, "p").reasons[0]
    assert any("b: " in reason for reason in outcome(report, "p").reasons)


async def test_a_cancelled_mission_cancels_those_within(small_crew: Crew) -> None:
    """
    Each of them keeps what it has and closes its books.
    """
    small_crew.plays("for_ever", for_ever)
    async with small_crew.at_work():
        mission = small_crew.mission(part("p", task("a", "for_ever")))
        handle = await small_crew.start(mission)
        books = MissionRecords(small_crew.store)
        await small_crew.until(handle, lambda progress: books.find("m~child~p"))
        child = small_crew.client.get_workflow_handle("m~child~p")
        await small_crew.until(child, lambda progress: progress.running)
        await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert report.status is MissionStatus.CANCELLED
    entry = books.find("m~child~p")
    assert entry is not None
    assert entry.state == "cancelled"


@pytest.mark.parametrize(
    ("given", "limits", "told"),
    [
        ({}, Limits(generations=0), "any deeper"),
        ({"goal": ""}, Limits(), "goal"),
        ({"tasks": []}, Limits(), "tasks"),
        ({"tasks": [{"id": "x", "role": "nobody"}]}, Limits(), "'nobody'"),
        ({"limits": {"tasks": 0}}, Limits(), "limits.tasks"),
    ],
)
def test_a_mission_within_is_checked_before_anything_starts(
    given: dict[str, Any], limits: Limits, told: str
) -> None:
    """
    As whole as the one around it.
    """
    crew = Crew(None, None)  # type: ignore[arg-type]
    crew.plays("well", well)
    mission = crew.mission(part("p", task("a", "well"), given=given), limits=limits)
    with pytest.raises(BadInputError, match=told):
        Plan(mission)


async def test_a_mission_that_is_cancelled_at_its_beginning_closes_its_books(
    small_crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is just being opened is waited for: no books stay open for ever.
    """
    opening, go_on = asyncio.Event(), threading.Event()
    loop, open_ = asyncio.get_running_loop(), MissionRecords.open

    def slow(books: MissionRecords, mission: Mission) -> Any:
        if mission.parent:
            loop.call_soon_threadsafe(opening.set)
            assert go_on.wait(30)
        return open_(books, mission)

    monkeypatch.setattr(MissionRecords, "open", slow)
    small_crew.plays("for_ever", for_ever)
    async with small_crew.at_work():
        mission = small_crew.mission(part("p", task("a", "for_ever")))
        handle = await small_crew.start(mission)
        await opening.wait()
        await handle.execute_update("cancel", "enough")
        loop.call_later(1.0, go_on.set)
        report = await ended(handle)

    assert outcome(report, "p").status is TaskStatus.SKIPPED
    entry = MissionRecords(small_crew.store).find("m~child~p")
    assert entry is not None
    assert entry.state == "cancelled"


@pytest.mark.parametrize("whose", ["mission", "batch"])
async def test_a_batch_that_is_cut_short_is_not_done(
    small_crew: Crew, whose: str
) -> None:
    """
    Its task is skipped with its mission, and degraded where only the batch was ended.
    """

    async def spread(given: Input, ctx: Context) -> FanOut:
        return FanOut(role="spread", items=[{"n": 1}, {"n": 2}])

    small_crew.plays("spread", spread)  # and nobody takes leases
    async with small_crew.at_work():
        handle = await small_crew.start(small_crew.mission(task("t", "spread")))
        batch = small_crew.client.get_workflow_handle("m~fanout~t")
        async with asyncio.timeout(BOUND_S):
            while not await has_lent(batch):
                pass
        whole = handle if whose == "mission" else batch
        await whole.execute_update("cancel", "enough")
        report = await ended(handle)

    if whose == "mission":
        assert report.status is MissionStatus.CANCELLED
        assert outcome(report, "t").status is TaskStatus.SKIPPED
    else:
        assert report.status is MissionStatus.DEGRADED
        assert outcome(report, "t").reasons == [
            "the pool was cancelled: 2 of 2 items are left"
        ]


async def has_lent(batch: WorkflowHandle[Any, Any]) -> bool:
    try:
        progress = await batch.query("progress", result_type=PoolProgress)
    except RPCError:
        return False  # it has not begun
    return progress.leases > 0
