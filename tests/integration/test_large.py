"""
Sums of sizes on a real server, which refuses a payload of 2 MB: what is larger lies in
the store, and the mission ends as a small one does.
"""

from typing import Any

from small_crew import Crew, ended, task
from temporalio.client import WorkflowHandle

from outlast.agents.context import Context
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.results import FollowUps
from outlast.contracts.tasks import Limits, Task
from outlast.ledger.missions import MissionRecords

MOST_HISTORY = 1_000_000


async def history_bytes(handle: WorkflowHandle[Any, Report]) -> int:
    return (await handle.describe()).raw_info.history_size_bytes


async def fail(given: dict[str, Any], ctx: Context) -> None:
    raise ValueError("中" * 2_000_000)


async def well(given: dict[str, Any], ctx: Context) -> int:
    return len(given["pad"])


async def test_a_mission_larger_than_a_payload_is_carried_out(
    lasting_crew: Crew,
) -> None:
    """
    400 tasks of 6 KB that need one which dies: start, report and query fit, and the
    error of it, of six megabytes, is told.
    """
    lasting_crew.plays("fail", fail)
    lasting_crew.plays("well", well)
    wide = [
        task(f"t{at}", "well", needs=["first"], input={"pad": "x" * 6_000})
        for at in range(399)
    ]
    limits = Limits(tasks=500)
    async with lasting_crew.at_work():
        asked = lasting_crew.mission(task("first", "fail"), *wide, limits=limits)
        asked = asked.model_copy(update={"goal": "g" * 2_000})
        handle = await lasting_crew.start(asked)
        report = await ended(handle)
        progress = await lasting_crew.progress(handle)
    assert report.status is MissionStatus.FAILED
    assert len(progress.settled) == 400
    (first, *others) = report.tasks
    assert "ValueError: 中中" in first.reasons[0]
    assert {each.status for each in others} == {TaskStatus.SKIPPED}
    assert await history_bytes(handle) < MOST_HISTORY
    kept = MissionRecords(lasting_crew.store).find(lasting_crew.name)
    assert kept is not None
    assert kept.report == report


async def test_follow_ups_larger_than_a_payload_are_done(lasting_crew: Crew) -> None:
    """
    75 of 30 KB, each of which gets all of its input.
    """

    async def grow(given: dict[str, Any], ctx: Context) -> FollowUps:
        pad = {"pad": "中" * 10_000}
        more = [Task(id=f"f{at}", role="well", input=pad) for at in range(75)]
        return FollowUps(result={"data": "x" * 3_000_000}, tasks=more)

    lasting_crew.plays("grow", grow)
    lasting_crew.plays("well", well)
    async with lasting_crew.at_work():
        asked = lasting_crew.mission(task("first", "grow"))
        handle = await lasting_crew.start(asked)
        report = await ended(handle)
    assert report.status is MissionStatus.COMPLETED
    assert await history_bytes(handle) < MOST_HISTORY
    found = MissionRecords(lasting_crew.store).results(lasting_crew.name)
    assert found["f74"] == 10_000
    assert len(found["first"]["data"]) == 3_000_000
