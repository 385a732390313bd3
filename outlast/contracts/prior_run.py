"""
What a mission carries from one run of its workflow to the next.
"""

from pydantic import Field

from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.failures import Detector
from outlast.contracts.ids import Name
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.reports import Outcome
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Task
from outlast.contracts.updates import Redrive
from outlast.contracts.wire import WireModel


class DispatchState(WireModel):
    """
    How far a task is on one route: see `workflows/redispatch.py`.

    :param dispatches: attempts so far.
    :param deaths: crashes since the last saved step.
    :param lost: attempts that were lost before they had begun.
    :param quarantine: the crashes in quarantine.
    :param died_at: when the last crash was noticed, in seconds since 1970.
    :param wait_s: before the next attempt.
    :param failures: that the policy still allows.
    """

    route: Name
    dispatches: int = 0
    deaths: int = 0
    lost: int = 0
    quarantine: Quarantine = Quarantine()
    died_at: float = 0.0
    wait_s: float = 0.0
    failures: int = 1
    checkpoint: Checkpoint | None = None
    previous_failure: str | None = None
    detected_by: Detector | None = None


class TaskState(WireModel):
    """
    How far a task in flight is: what the next run of its mission must neither repeat
    nor count again.

    :param failed: the routes that have failed, and why.
    :param began: whether it has started, so that it needs no approval to start.
    :param until: when its time budget ends, in seconds since 1970.
    :param asked: the pending approval request, due at *asked_until*.
    :param answer: set while the task waits for the batch of its fan-out.
    """

    failed: dict[Name, str] = Field(default={})
    route: str = ""
    began: bool = False
    approval: str = ""
    approved: list[str] = Field(default=[])
    skipped: list[str] = Field(default=[])
    until: float | None = None
    asked: ApprovalRequest | None = None
    asked_until: float | None = None
    answer: ResultRef | None = None
    checkpoint: Checkpoint | None = None
    dispatch: DispatchState | None = None


class PriorRun(WireModel):
    """
    Where an earlier run of a mission ended: either the mission had ended and some tasks
    are *redriven*, or its history was full.

    :param added: tasks that agents have added.
    :param authors: the tasks that have added them.
    :param redo_counts: how often agents have asked to redo a task.
    :param until: the mission's deadline, in seconds since 1970.
    :param dispatches: the number of the last dispatch.
    """

    added: list[Task] = Field(default=[])
    authors: dict[Name, Name] = Field(default={})
    outcomes: list[Outcome]
    redrive: Redrive | None = None
    rounds: dict[Name, int] = Field(default={})
    reasons: dict[Name, str] = Field(default={})
    redo_counts: dict[Name, int] = Field(default={})
    tasks_in_flight: dict[Name, TaskState] = Field(default={})
    checkpoints: dict[Name, Checkpoint] = Field(default={})
    paused: bool = False
    until: float | None = None
    dispatches: int = 0
