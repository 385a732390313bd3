"""
Deaths, as a real server tells of them: the time-skipping one retries a lost heartbeat
by itself, whatever it is told.
"""

import asyncio

from small_crew import Crew, task
from temporalio import activity
from temporalio.exceptions import ApplicationError

from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.quarantine import Death
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.results import ResultRef


async def test_a_lost_heartbeat_goes_on_from_the_checkpoint(lasting_crew: Crew) -> None:
    """
    The workflow dispatches again at once what has died, from its last beat.
    """
    seen: list[AttemptInput] = []

    async def dies_once(assignment: AttemptInput) -> ResultRef:
        seen.append(assignment)
        if len(seen) == 1:
            saved = Checkpoint(seq=3, route="fragile", value="three")
            activity.heartbeat({"checkpoint": saved.model_dump(), "status_message": ""})
            await asyncio.Event().wait()
        return ResultRef(digest="d", attempt=len(seen))

    lasting_crew.ends("fragile", dies_once)
    report = await lasting_crew.run(task("t", "fragile"))

    assert report.status is MissionStatus.COMPLETED
    assert seen[1].checkpoint == Checkpoint(seq=3, route="fragile", value="three")
    assert seen[1].previous_failure == "heartbeat timeout"
    assert seen[1].detected_by is Detector.HEARTBEAT


async def test_dying_again_and_again_without_a_step_is_a_dead_letter(
    lasting_crew: Crew,
) -> None:
    """
    After the policy's deaths without a saved step in between a task runs alone, and
    one more there that explains itself convicts it.
    """
    deaths: list[AttemptInput] = []
    seen = FailureDetails(detected_by=Detector.EXIT, death=Death(own=True)).dump()

    async def dies(assignment: AttemptInput) -> ResultRef:
        deaths.append(assignment)
        cause = "exit report: exited with code 3"
        raise ApplicationError(
            cause, seen, type=FailureType.CRASHED, non_retryable=True
        )

    lasting_crew.ends("killer", dies)
    report = await lasting_crew.run(task("t", "killer"))

    assert len(deaths) == 3
    assert report.tasks[0].status is TaskStatus.DEAD
    assert "died 3 times at one step" in report.tasks[0].reasons[0]


async def test_what_was_lost_before_it_began_is_nobodys_fault(
    lasting_crew: Crew,
) -> None:
    """
    A poll that dies with its process can swallow a task again and again: without a
    beat the task is no suspect.
    """
    seen: list[AttemptInput] = []

    async def is_lost(assignment: AttemptInput) -> ResultRef:
        seen.append(assignment)
        if len(seen) <= 3:
            await asyncio.Event().wait()
        return ResultRef(digest="d", attempt=len(seen))

    lasting_crew.ends("unlucky", is_lost)
    report = await lasting_crew.run(task("t", "unlucky"))

    assert report.status is MissionStatus.COMPLETED
    assert len(seen) == 4
