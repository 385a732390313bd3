"""
Attempts over their limit, as a real server tells of them: the time-skipping one retries
them by itself, whatever it is told.
"""

import asyncio

from small_crew import Crew, task
from temporalio import activity

from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.failures import Detector
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import Policy

LIMITED = Policy(attempt_limit_s=0.5, failures=2)


async def test_an_attempt_over_its_limit_goes_on_from_its_checkpoint(
    lasting_crew: Crew,
) -> None:
    """
    It is one of the failures that the task may have, and costs no saved step.
    """
    seen: list[AttemptInput] = []

    async def is_late_once(assignment: AttemptInput) -> ResultRef:
        seen.append(assignment)
        if len(seen) == 1:
            saved = Checkpoint(seq=3, route="slow", value="three")
            activity.heartbeat({"checkpoint": saved.model_dump(), "status_message": ""})
            await asyncio.Event().wait()
        return ResultRef(digest="d", attempt=len(seen))

    lasting_crew.ends("slow", is_late_once, policy=LIMITED)
    report = await lasting_crew.run(task("t", "slow"))

    assert report.status is MissionStatus.COMPLETED
    assert seen[1].checkpoint == Checkpoint(seq=3, route="slow", value="three")
    assert seen[1].detected_by is Detector.TIMEOUT
    assert [each.policy.failures for each in seen] == [2, 1]


async def test_attempts_over_their_limit_are_as_many_as_the_policy_says(
    lasting_crew: Crew,
) -> None:
    """
    Then the task is a dead letter, and says why.
    """
    seen: list[AttemptInput] = []

    async def is_late(assignment: AttemptInput) -> ResultRef:
        seen.append(assignment)
        await asyncio.Event().wait()
        raise AssertionError

    lasting_crew.ends("slow", is_late, policy=LIMITED)
    report = await lasting_crew.run(task("t", "slow"))

    assert len(seen) == 2
    assert report.tasks[0].status is TaskStatus.DEAD
    assert "timed out" in report.tasks[0].reasons[0]
