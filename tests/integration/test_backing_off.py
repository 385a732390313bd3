"""
What a real server tells of an attempt that backs off, by its own clock.
"""

import asyncio
from datetime import timedelta
from typing import Any

from small_crew import BOUND_S, Crew, task
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowHandle

from outlast import Context, TryLater
from outlast.cli.snapshot import PendingTasks, unstarted_tasks

LATER_S = 1.5


async def pending(handle: WorkflowHandle[Any, Any]) -> PendingActivityInfo | None:
    described = await handle.describe()
    return next(iter(described.raw_description.pending_activities), None)


async def test_a_back_off_is_over_when_the_server_says_so(lasting_crew: Crew) -> None:
    """
    It tells when the next attempt is due until then, so that nobody has to compare its
    clock with another one.
    """

    async def busy(given: dict[str, Any], ctx: Context) -> None:
        raise TryLater(timedelta(seconds=LATER_S))

    crew, watched = lasting_crew, PendingTasks()
    crew.plays("busy", busy)
    told: list[bool] = []
    async with asyncio.timeout(BOUND_S):
        async with crew.at_work():
            handle = await crew.start(crew.mission(task("t", "busy")))
            while not told:
                found = await pending(handle)
                if found and found.HasField("last_failure"):
                    waits = await unstarted_tasks(found, watched.waited_s(found))
                    told += [waits.backs_off] if waits else []
        while told[-1]:
            found = await pending(handle)
            assert found is not None
            waits = await unstarted_tasks(found, watched.waited_s(found))
            assert waits is not None
            told.append(waits.backs_off)
            await asyncio.sleep(0.05)
    await handle.terminate("the test is over")
    assert told[0]
    assert len(told) > 3
