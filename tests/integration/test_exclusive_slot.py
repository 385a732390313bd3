"""
Suspects of several roles in one process: one at a time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from small_crew import Crew, task
from temporalio import activity
from temporalio.exceptions import ApplicationError

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import quarantine_queue
from outlast.contracts.reports import MissionStatus
from outlast.contracts.results import ResultRef

ROLES = [f"role{number}" for number in range(5)]
# A poll brings what waits for it well within this time; without a beat an attempt
# may take 1.5 s.
HELD_S = 0.4


@dataclass
class Suspects:
    """
    Attempts that die in company, and are counted where they are alone.
    """

    deaths: int = 0
    now: int = 0
    most: int = 0
    alone: list[AttemptInput] = field(default_factory=list)
    all_suspect: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, role: str) -> Callable[[AttemptInput], Coroutine[Any, Any, ResultRef]]:
        async def play(assignment: AttemptInput) -> ResultRef:
            if activity.info().task_queue == quarantine_queue(role):
                return await self._alone(assignment)
            self.deaths += 1
            if self.deaths == 2 * len(ROLES):
                self.all_suspect.set()
            raise ApplicationError(
                "killed", type=FailureType.CRASHED, non_retryable=True
            )

        return play

    async def _alone(self, assignment: AttemptInput) -> ResultRef:
        self.alone.append(assignment)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.wait_for(self.all_suspect.wait(), 1.0)
        await asyncio.sleep(HELD_S)
        self.now -= 1
        return ResultRef(digest="d", attempt=3)


async def test_suspects_of_all_roles_wait_for_each_other(lasting_crew: Crew) -> None:
    """
    Each comes by its own role's queue, none is in hand beside another one, none is
    blamed for waiting, and all are done; waiting costs each a dispatch or two.
    """
    suspects = Suspects()
    for role in ROLES:
        lasting_crew.ends(role, suspects.of(role))
    report = await lasting_crew.run(*(task(role, role) for role in ROLES))

    assert report.status is MissionStatus.COMPLETED
    assert sorted(each.task.role for each in suspects.alone) == ROLES
    assert suspects.most == 1
    told = [each.previous_failure for each in suspects.alone]
    assert "the process has no room for another attempt" in told, (
        "none was polled beside another"
    )
    assert await dispatches(lasting_crew) < 10 * len(ROLES)


async def dispatches(crew: Crew) -> int:
    history = await crew.client.get_workflow_handle(crew.name).fetch_history()
    found = [each.activity_task_scheduled_event_attributes for each in history.events]
    return sum(bool(each.activity_id) for each in found)
