"""
What the supervisor workflow makes of a lookout's sightings.
"""

import asyncio
from typing import Any

import pytest
from small_crew import Crew, ended, task
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from test_supervisor import Input, hopeless, ill, outcome, well

from outlast import Context
from outlast.contracts.ids import AttemptId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.updates import UnservedTasks

Handle = WorkflowHandle[Any, Report]


def sighting(*live: str, name: str = "t", route: str = "first") -> UnservedTasks:
    return UnservedTasks(
        activity_ids=[str(AttemptId(name, route, 1))], served_roles=list(live)
    )


async def dispatched(crew: Crew, mission: Mission) -> Handle:
    """
    Start *mission* and wait until its first task waits for a worker.
    """
    handle = await crew.start(mission)
    await crew.until(handle, lambda progress: progress.running)
    return handle


@pytest.fixture
def routed(small_crew: Crew) -> Crew:
    """
    A crew whose first role has a fallback, and nobody who plays it.
    """
    small_crew.plays("first", well, fallbacks=("second",))
    small_crew.plays("second", well)
    small_crew.lost = {"first"}
    return small_crew


async def test_a_task_whose_role_is_lost_takes_the_next_route(routed: Crew) -> None:
    """
    It is taken back unstarted, done by the fallback, and the report says why.
    """
    async with routed.at_work():
        handle = await dispatched(routed, routed.mission(task("t", "first")))
        await handle.execute_update("reroute", sighting("second"))
        report = await ended(handle)

    assert report.status is MissionStatus.DEGRADED
    assert outcome(report, "t").route == "second"
    assert report.degraded == ["t: first: no live worker plays it"]


async def test_a_lost_role_that_is_back_is_used_again(routed: Crew) -> None:
    """
    The next task goes to the first route, as if nothing had been.
    """
    async with routed.at_work():
        tasks = [task("t", "first"), task("next", "first", needs=["t"])]
        handle = await dispatched(routed, routed.mission(*tasks))
        await handle.execute_update("reroute", sighting("second"))
        async with routed.playing("first"):
            report = await ended(handle)

    assert outcome(report, "t").route == "second"
    assert outcome(report, "next").route == "first"
    assert outcome(report, "next").status is TaskStatus.DONE


async def test_without_a_route_a_required_task_waits_for_its_workers(
    routed: Crew,
) -> None:
    """
    It is parked, the progress says for what, and it resumes by itself.
    """
    routed.lost = {"first", "second"}
    routed.plays("other", well)
    async with routed.at_work():
        handle = await dispatched(routed, routed.mission(task("t", "first")))
        await handle.execute_update("reroute", sighting("other"))
        (parked,) = (await routed.progress(handle)).running
        assert parked.waiting_for == "first: no live worker plays it"
        async with routed.playing("first"):
            report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED


async def test_a_parked_task_takes_whichever_route_comes_first(routed: Crew) -> None:
    """
    A fallback that is back before the first route is used.
    """
    async with routed.at_work():
        handle = await dispatched(routed, routed.mission(task("t", "first")))
        await handle.execute_update("reroute", sighting())
        await handle.execute_update("reroute", sighting("second"))
        report = await ended(handle)

    assert outcome(report, "t").route == "second"


async def test_without_a_route_an_optional_task_is_skipped(routed: Crew) -> None:
    """
    The mission goes on without it and says so.
    """
    routed.lost = {"first", "second"}
    routed.plays("other", well)
    async with routed.at_work():
        tasks = [task("t", "first", required=False), task("u", "other", needs=["t"])]
        handle = await dispatched(routed, routed.mission(*tasks))
        await handle.execute_update("reroute", sighting("other"))
        report = await ended(handle)

    assert report.status is MissionStatus.DEGRADED
    assert outcome(report, "t").status is TaskStatus.SKIPPED
    assert outcome(report, "t").reasons == [
        "first: no live worker plays it",
        "second: no live worker plays it",
    ]
    assert outcome(report, "u").status is TaskStatus.DONE


async def test_an_optional_task_waits_while_nobody_is_there_at_all(
    routed: Crew,
) -> None:
    """
    A fleet that is away as a whole costs no task.
    """
    async with routed.at_work():
        handle = await dispatched(
            routed, routed.mission(task("t", "first", required=False))
        )
        await handle.execute_update("reroute", sighting())
        assert (await routed.progress(handle)).running[0].waiting_for
        async with routed.playing("first"):
            report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED


async def test_what_changes_nothing_is_refused(lasting_crew: Crew) -> None:
    """
    A sighting of what is known leaves no event in the history. (On a real server: the
    time-skipping one writes down what was refused.)
    """
    lasting_crew.plays("first", well)
    lasting_crew.lost = {"first"}
    async with lasting_crew.at_work():
        handle = await dispatched(
            lasting_crew, lasting_crew.mission(task("t", "first"))
        )
        await handle.execute_update("reroute", sighting())
        before = len((await handle.fetch_history()).events)
        for old in (sighting(), sighting("other")):
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("reroute", old)
        assert len((await handle.fetch_history()).events) == before
        async with lasting_crew.playing("first"):
            await ended(handle)


@pytest.mark.parametrize("play", [ill, hopeless])
async def test_a_lost_route_is_tried_again_when_the_others_fail(
    lasting_crew: Crew, play
) -> None:
    """
    Passing by is no failure: before a task is given up it waits for its first route.
    (On a real server, whose retries need nobody to wait for the report.)
    """
    routed = lasting_crew
    routed.plays("first", well, fallbacks=("second",))
    routed.lost = {"first"}
    tried = asyncio.Event()

    async def fails(given: Input, ctx: Context) -> str:
        tried.set()
        return await play(given, ctx)

    routed.plays("second", fails)
    async with routed.at_work():
        handle = await dispatched(routed, routed.mission(task("t", "first")))
        await handle.execute_update("reroute", sighting("second"))
        await tried.wait()
        await routed.until(
            handle, lambda progress: progress.running[0].route == "first"
        )
        async with routed.playing("first"):
            report = await ended(handle)

    assert outcome(report, "t").route == "first"
    assert report.status is MissionStatus.COMPLETED
