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
    How far a task is on one route.

    :param dispatches: attempts so far.
    :param deaths: of them since the last saved step.
    :param lost: of them before they had begun.
    :param quarantine: what the deaths among them weigh while it was alone.
    :param died_at: when the last of them was heard of, in seconds since 1970.
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
    How far a task under way is, where its mission goes on in a new run: what its next
    attempt must neither repeat nor be charged for.

    :param failed: the routes that are over, and why.
    :param began: it needs no leave to start any more.
    :param until: when its time is spent, in seconds since 1970.
    :param asked: what a person is asked, and until when.
    :param answer: it has one, and waits for the batch that it has fanned out.
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
    What a mission that goes on has behind it: its plan as it is by now, how its tasks
    ended, and where those under way are. Either it had ended and some of it is
    *redriven*, or its history was full and it goes on in a new run.

    :param added: tasks that agents have asked for.
    :param authors: who has asked for a task, where that was an agent.
    :param redo_counts: how often agents wanted a task done again.
    :param until: its deadline, in seconds since 1970.
    :param dispatches: how many were made by then.
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
