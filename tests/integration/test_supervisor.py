"""
What the supervisor workflow does with every way in which a task can end.
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from small_crew import BOUND_S, Crew, ended, task
from temporalio import activity
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from outlast import Context, Degraded, FollowUps, GiveUp, TryLater
from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.errors import ParkedError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.reports import MissionStatus, Outcome, Report, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Limits
from outlast.ledger.attempt_order import ATTEMPT_BITS
from outlast.ledger.missions import MissionRecords
from outlast.store.schema import fences, stale_writes

Input = dict[str, Any]


async def well(given: Input, ctx: Context) -> str:
    return "well"


async def ill(given: Input, ctx: Context) -> str:
    raise RuntimeError("ill")


async def hopeless(given: Input, ctx: Context) -> str:
    raise GiveUp("hopeless")


async def for_ever(given: Input, ctx: Context) -> str:
    await asyncio.Event().wait()
    return "never"


def outcome(report: Report, name: str) -> Outcome:
    return next(each for each in report.tasks if each.id == name)


class Summing(BaseModel):
    needs: dict[str, int] = {}
    add: int = 0


async def test_results_flow_along_the_graph(small_crew: Crew) -> None:
    """
    A task gets the results of the tasks that it needs, by their ids.
    """

    async def add(given: Summing, ctx: Context) -> int:
        return given.add + sum(given.needs.values())

    small_crew.plays("add", add)
    report = await small_crew.run(
        task("a", "add", input={"add": 1}),
        task("b", "add", input={"add": 10}),
        task("c", "add", input={"add": 100}, needs=["a", "b"]),
    )

    assert report.status is MissionStatus.COMPLETED
    assert MissionRecords(small_crew.store).results("m") == {"a": 1, "b": 10, "c": 111}


async def test_a_failing_task_is_tried_as_often_as_its_policy_says(
    small_crew: Crew,
) -> None:
    """
    Failures are retried up to the policy's number; then the task is a dead letter
    with its cause, and what needs it is skipped, while all else goes on.
    """
    small_crew.plays("ill", ill)
    small_crew.plays("well", well)
    report = await small_crew.run(
        task("sick", "ill"),
        task("after", "well", needs=["sick"]),
        task("beside", "well"),
    )

    assert report.status is MissionStatus.FAILED
    sick = outcome(report, "sick")
    assert (sick.status, sick.attempts) == (TaskStatus.DEAD, 2)
    assert "RuntimeError: ill" in sick.reasons[0]
    assert outcome(report, "after").status is TaskStatus.SKIPPED
    assert outcome(report, "beside").status is TaskStatus.DONE


async def test_giving_up_is_not_retried(small_crew: Crew) -> None:
    """
    What no attempt can mend is tried once.
    """
    small_crew.plays("hopeless", hopeless)
    report = await small_crew.run(task("t", "hopeless"))

    assert outcome(report, "t").attempts == 1
    assert outcome(report, "t").reasons == ["hopeless: hopeless"]


async def test_an_optional_task_may_fail(small_crew: Crew) -> None:
    """
    A mission without an optional part is degraded and says which part.
    """
    small_crew.plays("ill", ill)
    small_crew.plays("well", well)
    report = await small_crew.run(
        task("extra", "ill", required=False), task("main", "well", needs=["extra"])
    )

    assert report.status is MissionStatus.DEGRADED
    assert outcome(report, "main").status is TaskStatus.DONE
    assert any("extra" in reason for reason in report.degraded)


async def test_a_fallback_answers_when_the_role_cannot(small_crew: Crew) -> None:
    """
    The next route takes over from the first, and the outcome says so.
    """
    small_crew.plays("ill", ill, fallbacks=("well",))
    small_crew.plays("well", well)
    report = await small_crew.run(task("t", "ill"))

    assert report.status is MissionStatus.DEGRADED
    assert outcome(report, "t").route == "well"
    assert "ill" in outcome(report, "t").reasons[0]


async def test_an_agent_may_say_that_its_result_is_less_than_asked(
    small_crew: Crew,
) -> None:
    """
    A degraded result is kept, with its reason.
    """

    async def half(given: Input, ctx: Context) -> Degraded:
        return Degraded("half", "the other half is missing")

    small_crew.plays("half", half)
    report = await small_crew.run(task("t", "half"))

    assert report.status is MissionStatus.DEGRADED
    assert report.degraded == ["t: the other half is missing"]


async def test_a_service_that_asks_for_an_hour_gets_it(
    small_crew: Crew, time: WorkflowEnvironment
) -> None:
    """
    TryLater's delay is the time until the next attempt.
    """

    async def busy(given: Input, ctx: Context) -> str:
        if ctx.attempt == 1:
            raise TryLater(timedelta(hours=1))
        return "done"

    small_crew.plays("busy", busy)
    began = await time.get_current_time()
    report = await small_crew.run(task("t", "busy"))

    assert report.status is MissionStatus.COMPLETED
    assert await time.get_current_time() - began >= timedelta(hours=1)


@pytest.mark.parametrize(
    ("ahead", "refusals_"),
    [(1_000 << ATTEMPT_BITS, 1), (3_600_000_000 << 10, 1), (7_200_000_000 << 10, 0)],
    ids=["a thousand dispatches", "as an hour once was", "past its run"],
)
async def test_a_ledger_that_is_ahead_of_the_server_stops_nothing(
    small_crew: Crew, ahead: int, refusals_: int
) -> None:
    """
    As where the server was restored from a backup: the first attempt learns it, and is
    no failure and no death.
    """
    seen = []

    async def later(given: Input, ctx: Context) -> str:
        seen.append(ctx.attempt)
        saved = await ctx.resume(int, 0)
        if saved < 2:
            await ctx.save(saved + 1)
            raise TryLater(30)
        return "done"

    def set_back(connection: sa.Connection) -> int:
        moved = sa.update(fences).where(fences.c.failures == 1)
        moved = moved.values(fence=fences.c.fence + ahead)
        return connection.execute(moved).rowcount

    small_crew.plays("later", later, policy=Policy(failures=3, crashes=1))
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await small_crew.start(small_crew.mission(task("t", "later")))
        moved = 0
        while not moved:
            await small_crew.progress(handle)
            with small_crew.store.write() as connection:
                moved = set_back(connection)
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED
    assert seen == [1, 2, 3]
    with small_crew.store.read() as connection:
        count = sa.select(sa.func.count()).select_from(stale_writes)
        assert connection.scalar(count) == refusals_


async def test_follow_up_tasks_run(small_crew: Crew) -> None:
    """
    Tasks that an agent returns join the plan.
    """

    async def plan(given: Input, ctx: Context) -> FollowUps:
        return FollowUps(result="planned", tasks=[task("more", "well")])

    small_crew.plays("plan", plan)
    small_crew.plays("well", well)
    report = await small_crew.run(task("p", "plan"))

    assert outcome(report, "more").status is TaskStatus.DONE


async def test_follow_up_tasks_that_do_not_fit_are_refused_whole(
    small_crew: Crew,
) -> None:
    """
    A plan with an unknown need makes its author a dead letter and adds nothing.
    """

    async def plan(given: Input, ctx: Context) -> FollowUps:
        added = [task("fine", "well"), task("lost", "well", needs=["nowhere"])]
        return FollowUps(tasks=added)

    small_crew.plays("plan", plan)
    small_crew.plays("well", well)
    report = await small_crew.run(task("p", "plan"))

    assert [each.id for each in report.tasks] == ["p"]
    assert outcome(report, "p").status is TaskStatus.DEAD
    assert "nowhere" in outcome(report, "p").reasons[0]


async def test_a_drained_worker_hands_on_without_blame(small_crew: Crew) -> None:
    """
    Handing over is no death: it may happen more often than a task may die.
    """
    seen: list[AttemptInput] = []

    async def drains(assignment: AttemptInput) -> ResultRef:
        seen.append(assignment)
        if len(seen) <= 5:
            saved = Checkpoint(seq=1, route="mover")
            details = FailureDetails(detected_by=Detector.DRAIN, checkpoint=saved)
            raise ApplicationError(
                "drained", details.dump(), type=FailureType.DRAINED, non_retryable=True
            )
        return ResultRef(digest="d", attempt=6)

    small_crew.ends("mover", drains)
    report = await small_crew.run(task("t", "mover"))

    assert report.status is MissionStatus.COMPLETED
    assert len(seen) == 6


async def test_what_a_person_must_see_is_parked(small_crew: Crew) -> None:
    """
    A parked task parks what needs it, and the mission.
    """

    async def unsure(given: Input, ctx: Context) -> str:
        raise ParkedError("did it happen?")

    small_crew.plays("unsure", unsure)
    small_crew.plays("well", well)
    report = await small_crew.run(
        task("t", "unsure"), task("after", "well", needs=["t"])
    )

    assert report.status is MissionStatus.PARKED
    assert {each.status for each in report.tasks} == {TaskStatus.PARKED}


async def test_a_paused_mission_starts_nothing_further(small_crew: Crew) -> None:
    """
    Pause lets the running finish and holds the rest until unpause.
    """
    began, go = asyncio.Event(), asyncio.Event()

    async def gated(given: Input, ctx: Context) -> str:
        began.set()
        await go.wait()
        return "done"

    small_crew.plays("gated", gated)
    async with small_crew.at_work():
        mission = small_crew.mission(
            task("a", "gated"), task("b", "gated", needs=["a"])
        )
        handle = await small_crew.start(mission)
        await began.wait()  # a pause may arrive before the first task is started
        await handle.execute_update("pause")
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("pause")
        go.set()
        progress = await small_crew.until(handle, lambda progress: progress.settled)
        assert progress.paused
        assert progress.waiting == ["b"]
        assert progress.running == []
        await handle.execute_update("unpause")
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED


async def test_cancel_keeps_what_is_done(small_crew: Crew) -> None:
    """
    A cancelled mission ends its attempts, skips the rest, keeps results, and its
    report is in the ledger.
    """
    small_crew.plays("well", well)
    small_crew.plays("for_ever", for_ever)
    async with small_crew.at_work():
        mission = small_crew.mission(
            task("a", "well"),
            task("b", "for_ever", needs=["a"]),
            task("c", "well", needs=["b"]),
        )
        handle = await small_crew.start(mission)
        await small_crew.until(handle, lambda progress: progress.settled)
        await handle.execute_update("cancel", "no longer needed")
        report = await ended(handle)

    assert report.status is MissionStatus.CANCELLED
    assert [each.status for each in sorted(report.tasks, key=lambda each: each.id)] == [
        TaskStatus.DONE,
        TaskStatus.SKIPPED,
        TaskStatus.SKIPPED,
    ]
    entry = MissionRecords(small_crew.store).find("m")
    assert entry is not None
    assert entry.report == report


async def test_a_cancellation_from_outside_is_reported_too(small_crew: Crew) -> None:
    """
    Cancelling the workflow in the Web UI ends the mission with a report.
    """
    small_crew.plays("for_ever", for_ever)
    async with small_crew.at_work():
        handle = await small_crew.start(small_crew.mission(task("a", "for_ever")))
        await small_crew.until(handle, lambda progress: progress.running)
        await handle.cancel()
        report = await ended(handle)

    assert report.status is MissionStatus.CANCELLED
    assert outcome(report, "a").status is TaskStatus.SKIPPED


async def test_the_deadline_ends_a_mission(small_crew: Crew) -> None:
    """
    Past its deadline a mission is reported with what it has.
    """

    async def busy(given: Input, ctx: Context) -> str:
        raise TryLater(timedelta(days=2))

    small_crew.plays("busy", busy)
    small_crew.plays("well", well)
    report = await small_crew.run(
        task("slow", "busy"), task("fast", "well"), limits=Limits(deadline_s=3600)
    )

    assert report.status is MissionStatus.FAILED
    assert outcome(report, "fast").status is TaskStatus.DONE
    assert "deadline" in outcome(report, "slow").reasons[0]


async def test_no_more_tasks_run_at_once_than_the_mission_allows(
    small_crew: Crew,
) -> None:
    """
    Concurrency is a cap.
    """
    now, most = 0, 0

    async def counted(given: Input, ctx: Context) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return "done"

    small_crew.plays("counted", counted)
    report = await small_crew.run(
        *(task(f"t{number}", "counted") for number in range(12)),
        limits=Limits(concurrency=3),
    )

    assert report.status is MissionStatus.COMPLETED
    assert most <= 3


async def test_a_cancelled_task_does_not_fall_back(lasting_crew: Crew) -> None:
    """
    What is ended on purpose is not tried elsewhere, whatever it raises as it ends.
    (On a real server: the time-skipping one forgets a failure after a cancellation.)
    """
    tried: list[str] = []

    async def unruly(given: Input, ctx: Context) -> str:
        tried.append("unruly")
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("cleanup failed")

    async def other(given: Input, ctx: Context) -> str:
        tried.append("other")
        return "done"

    lasting_crew.plays("unruly", unruly, fallbacks=("other",))
    lasting_crew.plays("other", other)
    async with lasting_crew.at_work():
        handle = await lasting_crew.start(lasting_crew.mission(task("a", "unruly")))
        await lasting_crew.until(handle, lambda progress: tried)
        await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert tried == ["unruly"]
    assert outcome(report, "a").status is TaskStatus.SKIPPED
    assert outcome(report, "a").reasons == ["enough"]


@pytest.mark.parametrize("by_update", [True, False])
async def test_follow_ups_that_come_while_a_mission_ends_are_skipped(
    small_crew: Crew, by_update: bool
) -> None:
    """
    Every task has an end in the report, those too that came last.
    """
    begun = asyncio.Event()

    async def late(assignment: AttemptInput) -> ResultRef:
        begun.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            more = [task("more", "stubborn")]
            return ResultRef(digest="late", attempt=1, follow_ups=more)

    small_crew.ends("stubborn", late)
    async with small_crew.at_work():
        handle = await small_crew.start(small_crew.mission(task("a", "stubborn")))
        await begun.wait()
        if by_update:
            await handle.execute_update("cancel", "enough")
        else:
            await handle.cancel()
        report = await ended(handle)

    assert report.status is MissionStatus.CANCELLED
    ends = {each.id: each.status for each in report.tasks}
    assert ends == {"a": TaskStatus.DONE, "more": TaskStatus.SKIPPED}
