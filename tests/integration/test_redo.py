"""
Work that is done again on purpose: rounds, their limit, and who must look then.
"""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel
from small_crew import Crew, task
from test_supervisor import Input, for_ever, outcome, well

from outlast import Context, FollowUps, Redo
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.tasks import Limits
from outlast.ledger.missions import MissionRecords


class Draft(BaseModel):
    needs: dict[str, str] = {}


class Newsroom:
    """
    A writer whose drafts are numbered, and a reviewer who wants the *good*-th.
    """

    def __init__(self, crew: Crew, good: int, result: str | None = None) -> None:
        self.crew, self.good, self.result = crew, good, result
        self.reasons: list[str | None] = []
        crew.plays("write", self.write)
        crew.plays("review", self.review)
        crew.plays("publish", self.publish)

    async def write(self, given: Draft, ctx: Context) -> str:
        self.reasons.append(ctx.redo_reason)
        return f"draft {ctx.round}"

    async def review(self, given: Draft, ctx: Context) -> str | Redo:
        draft = given.needs["write"]
        if draft == f"draft {self.good}":
            return f"reviewed {draft}"
        return Redo(task="write", reason=f"{draft} is poor", result=self.result)

    async def publish(self, given: Draft, ctx: Context) -> str:
        return f"published: {given.needs['review']}"

    async def run(self, **more: object):
        return await self.crew.run(
            task("write", "write"),
            task("review", "review", needs=["write"]),
            task("publish", "publish", needs=["review"]),
            **more,
        )


async def test_a_rejected_draft_is_written_again(small_crew: Crew) -> None:
    """
    With the reason; what follows is done on the new draft, and nothing is degraded.
    """
    room = Newsroom(small_crew, good=3)
    report = await room.run()

    assert report.status is MissionStatus.COMPLETED
    assert room.reasons == [
        None,
        "write rejected: draft 1 is poor",
        "write rejected: draft 2 is poor",
    ]
    assert outcome(report, "write").round == 3
    found = MissionRecords(small_crew.store).results("m")
    assert found["publish"] == "published: reviewed draft 3"


async def test_past_the_limit_a_person_must_look(small_crew: Crew) -> None:
    """
    Two rounds more by default; then the reviewer's task is parked, with the reason.
    """
    room = Newsroom(small_crew, good=9)
    report = await room.run()

    assert report.status is MissionStatus.PARKED
    assert len(room.reasons) == 3
    review = outcome(report, "review")
    assert review.status is TaskStatus.PARKED
    assert review.reasons == ["write rejected: draft 3 is poor (round 3)"]
    assert outcome(report, "publish").status is TaskStatus.PARKED


async def test_past_the_limit_what_stands_is_taken(small_crew: Crew) -> None:
    """
    A rejection that comes with a result ends degraded, and what follows is done.
    """
    room = Newsroom(small_crew, good=9, result="the best there is")
    report = await room.run(limits=Limits(redos=1))

    assert report.status is MissionStatus.DEGRADED
    assert report.degraded == ["review: write rejected: draft 2 is poor (round 2)"]
    found = MissionRecords(small_crew.store).results("m")
    assert found["publish"] == "published: the best there is"


async def test_what_depends_on_a_redone_task_is_begun_again(small_crew: Crew) -> None:
    """
    Whatever has read the old draft is ended, wherever it is, and reads the new one.
    """
    room = Newsroom(small_crew, good=2)

    async def slow(given: Draft, ctx: Context) -> str:
        return await for_ever({}, ctx) if ctx.round == 1 else given.needs["write"]

    small_crew.plays("slow", slow)
    report = await small_crew.run(
        task("write", "write"),
        task("review", "review", needs=["write"]),
        task("beside", "slow", needs=["write"]),
        task("apart", "write"),
    )

    assert report.status is MissionStatus.COMPLETED
    assert MissionRecords(small_crew.store).results("m")["beside"] == "draft 2"
    assert room.reasons.count(None) == 2, "what does not depend on it is left alone"
    assert outcome(report, "apart").round == 1


async def test_a_redone_planner_plans_anew(small_crew: Crew) -> None:
    """
    The tasks that it had asked for are withdrawn unless it asks for them again.
    """

    async def plan(given: Input, ctx: Context) -> FollowUps:
        names = ["old", "both"] if ctx.round == 1 else ["both", "new"]
        tasks = [task(name, "well") for name in names]
        ends = task("end", "judge", needs=["plan", "both"])
        return FollowUps(result=ctx.round, tasks=[*tasks, ends])

    async def judge(given: Input, ctx: Context) -> str | Redo:
        return Redo(task="plan", reason="poor") if ctx.round == 1 else "good"

    small_crew.plays("plan", plan)
    small_crew.plays("judge", judge)
    small_crew.plays("well", well)
    report = await small_crew.run(task("plan", "plan"))

    assert report.status is MissionStatus.COMPLETED
    assert {each.id for each in report.tasks} == {"plan", "both", "new", "end"}


@pytest.mark.parametrize("target", ["nothing", "apart"])
async def test_only_what_a_task_depends_on_can_be_redone(
    small_crew: Crew, target: str
) -> None:
    """
    Anything else is a fault of the agent, named in its dead letter.
    """

    async def judge(given: Input, ctx: Context) -> Redo:
        return Redo(task=target, reason="poor")

    small_crew.plays("judge", judge)
    small_crew.plays("well", well)
    report = await small_crew.run(task("apart", "well"), task("j", "judge"))

    assert outcome(report, "j").status is TaskStatus.DEAD
    assert repr(target) in outcome(report, "j").reasons[0]


def rejecting(answer: str | Redo, within_s: float) -> Any:
    """
    Play a role that says *answer* in its first round, also when it was cancelled.
    """

    async def judge(given: Draft, ctx: Context) -> str | Redo:
        if ctx.round > 1:
            return "good"
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while (left_s := end - loop.time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left_s)
        return answer

    return judge


async def test_two_reject_a_draft_in_the_same_moment(small_crew: Crew) -> None:
    """
    It is done again once, by the word of the first: neither waits for the other.
    """
    room = Newsroom(small_crew, good=2)
    poor = Redo(task="write", reason="poor")
    small_crew.plays("first", rejecting(poor, 0.2))
    small_crew.plays("second", rejecting(poor, 0.6))
    async with asyncio.timeout(30):
        report = await small_crew.run(
            task("write", "write"),
            task("a", "first", needs=["write"]),
            task("b", "second", needs=["write"]),
        )

    assert report.status is MissionStatus.COMPLETED
    assert room.reasons == [None, "write rejected: poor"]


async def test_nothing_begins_on_a_draft_that_is_rejected(small_crew: Crew) -> None:
    """
    A slot that is free while others are still being ended is not for those who would
    read the old draft.
    """

    async def write(given: Draft, ctx: Context) -> str:
        await asyncio.sleep(ctx.round - 1)
        return f"draft {ctx.round}"

    async def read(given: Draft, ctx: Context) -> str:
        await asyncio.sleep(1.6)
        return given.needs["write"]

    small_crew.plays("write", write)
    small_crew.plays("first", rejecting(Redo(task="write", reason="poor"), 0.2))
    small_crew.plays("second", rejecting("good", 0.6))
    small_crew.plays("third", rejecting("good", 1.8))
    small_crew.plays("read", read)
    roles = ["first", "second", "third", "read"]
    report = await small_crew.run(
        task("write", "write"),
        *(task(role, role, needs=["write"]) for role in roles),
        limits=Limits(concurrency=3),
    )

    assert report.status is MissionStatus.COMPLETED
    assert MissionRecords(small_crew.store).results("m")["read"] == "draft 2"
    assert outcome(report, "read").round == 1
