"""
What is told of a mission: how it goes, and how it ended.

Nothing here is ever undecided: each task ends in one TaskStatus, each mission in a
Report that lists what it lacks and why.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Self, TypeVar

from pydantic import Field

from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MissionId, Name
from outlast.contracts.sizes import PROGRESS_BYTES, REASONS_BYTES
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.wire import WireModel

# A cause, with the task and the missions within that it comes from.
REASON_CHARS = CAUSE_CHARS + 200
BRIEF_CHARS = 120  # of one, where there are thousands


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
    # A budget was spent: what needs it goes on without it.
    budget_exhausted: bool = False
    approval: str = ""  # what a person, or the deadline, has said


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


class RunningTask(WireModel):
    """
    A task that is under way.
    """

    id: Name
    role: Name
    route: Name
    waiting_for: str = ""  # parked: what for


class MissionProgress(WireModel):
    """
    The answer to the query `mission_progress`.
    """

    inline: ClassVar[bool] = True
    mission: MissionId
    paused: bool
    waiting: list[Name]
    running: list[RunningTask]
    settled: list[Outcome]
    approval_requests: list[ApprovalRequest] = Field(default=[])
    left_out: int = 0  # tasks: all of them are more than an answer may hold


def fitting(progress: MissionProgress) -> MissionProgress:
    """
    Make *progress* an answer that the server takes: where it is too large, what a
    person needs goes first, and outcomes are told in short.
    """
    if _size(progress) <= PROGRESS_BYTES:
        return progress
    requests, room = (
        _MessageSpace(PROGRESS_BYTES // 2),
        _MessageSpace(PROGRESS_BYTES // 2),
    )
    asked, running = (
        requests.fitting(progress.approval_requests),
        room.fitting(progress.running),
    )
    brief = [_brief(each) for each in progress.settled]
    lacking = room.fitting(
        [each for each in brief if each.status is not TaskStatus.DONE]
    )
    waiting = room.fitting_names(progress.waiting)
    done = room.fitting([each for each in brief if each.status is TaskStatus.DONE])
    return MissionProgress(
        mission=progress.mission,
        paused=progress.paused,
        waiting=waiting,
        running=running,
        settled=[*lacking, *done],
        approval_requests=asked,
        left_out=requests.left_out + room.left_out,
    )


T = TypeVar("T", bound=WireModel)


class _MessageSpace:
    """
    What there is room for in an answer of at most *size* bytes.
    """

    def __init__(self, size: int) -> None:
        self.left_out = 0
        self._left = size

    def fitting(self, models: list[T]) -> list[T]:
        """
        Take as many of *models* as there is room for, from the front.
        """
        return models[: self._fit(_size(each) for each in models)]

    def fitting_names(self, names: list[str]) -> list[str]:
        """
        The same for names.
        """
        return names[: self._fit(len(each) for each in names)]

    def _fit(self, sizes: Iterable[int]) -> int:
        count = 0
        for size in sizes:
            self._left -= size + 4  # what parts it from the next
            count += self._left >= 0
            self.left_out += self._left < 0
        return count


def _brief(outcome: Outcome) -> Outcome:
    reasons = [one_line(each, BRIEF_CHARS) for each in outcome.reasons[:1]]
    return outcome.model_copy(update={"summary": "", "reasons": reasons})


def _size(model: WireModel) -> int:
    return len(model.model_dump_json().encode())
