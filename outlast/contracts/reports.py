"""
How tasks and missions end.

Nothing is ever undecided: each task ends in one TaskStatus, each mission in a
Report that lists what it lacks and why.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field

from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MissionId, Name
from outlast.contracts.sizes import MAX_REASONS, REASONS_BYTES
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.wire import WireModel

# A cause, with the task and the missions within that it comes from.
REASON_CHARS = CAUSE_CHARS + 200


class TaskStatus(StrEnum):
    """
    How a task ends.
    """

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    PARKED = "parked"
    DEAD = "dead"


class MissionStatus(StrEnum):
    """
    How a mission ends.
    """

    COMPLETED = "completed"
    DEGRADED = "degraded"
    PARKED = "parked"
    FAILED = "failed"
    CANCELLED = "cancelled"


def bounded_reasons(reasons: Iterable[str]) -> list[str]:
    """
    Keep as many *reasons* as have room in an outcome, and say how many were left out.
    """
    kept: list[str] = []
    every = [one_line(each, REASON_CHARS) for each in reasons]
    room = REASONS_BYTES
    for each in every:
        room -= len(each.encode())
        if room < 0:
            return [*kept, f"and {len(every) - len(kept)} more reasons"]
        kept.append(each)
    return kept


class Outcome(WireModel):
    """
    How one task ended. *route* is the role that really did it.
    """

    id: Name
    role: Name
    route: Name
    status: TaskStatus
    attempts: int = 0
    required: bool = True
    reasons: list[str] = Field(default=[])
    summary: str = ""
    round: int = 1
    # A budget was spent: what needs the task runs without it.
    budget_exhausted: bool = False
    approval: str = ""  # what a person, or the deadline, has said

    @property
    def has_result(self) -> bool:
        return self.status in (TaskStatus.DONE, TaskStatus.DEGRADED)

    @property
    def is_blocking(self) -> bool:
        """
        Whether what needs the task cannot run: it was required, and has no result, and
        not for want of budget.
        """
        return self.required and not self.has_result and not self.budget_exhausted


def outcome_without_attempt(task: Task, status: TaskStatus, *reasons: str) -> Outcome:
    return Outcome(
        id=task.id,
        role=task.role,
        route=task.role,
        status=status,
        required=task.required,
        reasons=bounded_reasons(reasons),
    )


class FinalReport(WireModel):
    """
    How a workflow ended; one that failed fails with its report in the details.
    """

    failure_type: ClassVar[FailureType]

    @classmethod
    def of_failure(cls, failure: object) -> Self | None:
        """
        Read the report out of what a workflow has failed with; None where there is
        none.
        """
        details = list(getattr(failure, "details", ()))
        if getattr(failure, "type", None) != cls.failure_type or not details:
            return None
        return cls.read(details[0])


class Report(FinalReport):
    """
    How a mission ended, with what it lacks and why.
    """

    failure_type = FailureType.MISSION_FAILED
    mission: MissionId
    status: MissionStatus
    tasks: list[Outcome]
    degraded: list[str] = Field(default=[])


def mission_status(outcomes: Iterable[Outcome]) -> MissionStatus:
    """
    Say how a mission ended whose tasks ended like this.
    """
    ends = list(outcomes)
    needed = [each for each in ends if each.required]
    if needed and all(each.budget_exhausted for each in needed):
        return MissionStatus.FAILED  # there is nothing that it has come to
    required = {each.status for each in needed if not each.budget_exhausted}
    if required & {TaskStatus.DEAD, TaskStatus.SKIPPED}:
        return MissionStatus.FAILED
    if TaskStatus.PARKED in required:
        return MissionStatus.PARKED
    if all(each.status is TaskStatus.DONE for each in ends):
        return MissionStatus.COMPLETED
    return MissionStatus.DEGRADED


def report_of(mission: str, outcomes: list[Outcome], cancelled: bool) -> Report:
    """
    Make the report of a mission that has ended, with what is missing and why.
    """
    status = mission_status(outcomes)
    if cancelled and status is not MissionStatus.COMPLETED:
        status = MissionStatus.CANCELLED
    lacking = [
        f"{each.id}: {reason}"
        for each in outcomes
        if each.status is not TaskStatus.DONE
        for reason in each.reasons
    ]
    if (more := len(lacking) - MAX_REASONS) > 0:
        lacking = [
            *lacking[:MAX_REASONS],
            f"and {more} more: outlast explain {mission}",
        ]
    return Report(mission=mission, status=status, tasks=outcomes, degraded=lacking)
