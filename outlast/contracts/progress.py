"""
How a mission goes: the answer to the query `progress`, however many tasks there are.
"""

from collections.abc import Iterable
from typing import ClassVar, TypeVar

from pydantic import Field

from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.ids import MissionId, Name
from outlast.contracts.reports import Outcome, TaskStatus
from outlast.contracts.sizes import PROGRESS_BYTES
from outlast.contracts.text import one_line
from outlast.contracts.wire import WireModel

BRIEF_CHARS = 120  # of a reason, where there are thousands


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
    Make *progress* small enough for the server to take. What a person needs comes
    first, and outcomes are shortened.
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
