"""
What becomes of a mission when its tokens, cost or time are spent.
"""

import asyncio

import pytest
from small_crew import Crew, task
from temporalio.exceptions import ApplicationError
from test_supervisor import Input, for_ever, outcome, well

from outlast import Context
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.failures import FailureType
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Budget, Limits


async def think(given: Input, ctx: Context) -> str:
    await ctx.record_usage(tokens=60, cost=0.6)
    return "thought"


@pytest.fixture
def thinkers(small_crew: Crew) -> Crew:
    small_crew.plays("think", think)
    small_crew.plays("well", well)
    return small_crew


@pytest.mark.parametrize("limits", [Limits(tokens=100), Limits(cost=1.0)], ids=str)
async def test_a_mission_whose_budget_is_spent_ends_with_what_it_has(
    thinkers: Crew, limits: Limits
) -> None:
    """
    The task that has passed it is left out, what needs it runs without it, and the
    report says so.
    """
    report = await thinkers.run(
        task("a", "think"),
        task("b", "think", needs=["a"]),
        task("c", "well", needs=["a", "b"]),
        limits=limits,
    )

    assert report.status is MissionStatus.DEGRADED
    left_out = outcome(report, "b")
    assert (left_out.status, left_out.budget_exhausted) == (TaskStatus.SKIPPED, True)
    assert "of the mission's" in left_out.reasons[0]
    assert outcome(report, "c").status is TaskStatus.DONE


async def test_a_route_that_costs_nothing_is_taken_instead(thinkers: Crew) -> None:
    """
    A fallback may still answer when the budget of its role's is spent.
    """
    thinkers.plays("think", think, fallbacks=("well",))
    report = await thinkers.run(task("t", "think", budget=Budget(tokens=50)))

    assert outcome(report, "t").route == "well"
    assert report.degraded == ["t: think: 60 tokens used of the task's 50"]


async def test_a_task_has_a_budget_of_its_own(thinkers: Crew) -> None:
    """
    What its neighbours spend does not count.
    """
    report = await thinkers.run(
        task("a", "think"),
        task("b", "think"),
        task("c", "think", budget=Budget(cost=0.5)),
    )

    ends = {each.id: each.status for each in report.tasks}
    assert ends == {"a": TaskStatus.DONE, "b": TaskStatus.DONE, "c": TaskStatus.SKIPPED}
    assert report.status is MissionStatus.DEGRADED


async def test_a_task_that_takes_too_long_is_left_out(thinkers: Crew) -> None:
    """
    Its time is spent, however often it was dispatched; the others are not touched.
    """
    thinkers.plays("for_ever", for_ever)
    report = await thinkers.run(
        task("a", "for_ever", budget=Budget(time_s=0.5)),
        task("b", "well", needs=["a"]),
    )

    assert report.status is MissionStatus.DEGRADED
    assert report.degraded == ["a: its 0.5 s are spent"]
    assert outcome(report, "b").status is TaskStatus.DONE


async def test_a_mission_that_comes_to_nothing_has_failed(thinkers: Crew) -> None:
    """
    Where all that was required is forgone there is nothing to deliver.
    """
    report = await thinkers.run(task("a", "think"), limits=Limits(tokens=1))
    assert report.status is MissionStatus.FAILED


async def test_a_death_at_the_end_of_its_time_is_the_last(small_crew: Crew) -> None:
    """
    A task whose attempt dies before it hears that its time is spent is not begun again.
    """
    begun = 0

    async def end(assignment: AttemptInput) -> ResultRef:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.6)
        raise ApplicationError("died", type=FailureType.CRASHED, non_retryable=True)

    small_crew.ends("dies", end)
    report = await small_crew.run(task("t", "dies", budget=Budget(time_s=0.4)))

    assert outcome(report, "t").budget_exhausted
    assert begun == 1
