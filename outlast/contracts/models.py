"""
What starter, workflows and agents say to each other.

Nothing here is ever undecided: each task ends in one Status, each mission in a
Report that lists what it lacks and why. References travel, documents do not.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from outlast.contracts.errors import NewerStateError
from outlast.contracts.policies import Policy

# What this release writes into state, and the highest that it reads. It grows when an
# older release could no longer understand what a newer one has written.
SCHEMA_NUMBER = 1

MISSIONS_QUEUE = "outlast-missions"

# Progress in a heartbeat. Temporal terminates a workflow whose pending heartbeats
# grow past its state limit, so what is larger goes to the store.
CHECKPOINT_BYTES = 4 * 1024
RESULT_BYTES = 64 * 1024
INPUT_BYTES = 32 * 1024
MISSION_BYTES = 1024 * 1024
SUMMARY_CHARS = 200
CAUSE_CHARS = 400

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
]


# Before which a person may have to approve a task.
Moment = Literal["start", "effect"]

# A batch that a task has spread is named after both.
BatchName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._#-]*$", max_length=210)
]


def batch_of(mission: str, task: str, round_: int = 1) -> str:
    """
    Name the batch that a round of a task spreads; no name of a user's holds a '#'.
    """
    return f"{mission}#{task}" if round_ == 1 else f"{mission}#{task}#{round_}"


def round_of(batch: str) -> int:
    """
    Read the round back from a `batch_of`; 1 where nobody has spread the batch.
    """
    parts = batch.split("#")
    return int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() else 1


def queue_of(role: str) -> str:
    """
    Name the task queue on which workers that host *role* listen.
    """
    return f"outlast-role-{role}"


def alone_queue_of(role: str) -> str:
    """
    Name the task queue for tasks of *role* that are suspected of killing their process.
    """
    return f"outlast-alone-{role}"


def attempt_id(task: str, route: str, dispatch: int) -> str:
    """
    Name a dispatch in the history; no name holds a '#'.
    """
    return f"{task}#{route}#{dispatch}"


def task_of(attempt_id: str) -> str:
    """
    Read the task back from an `attempt_id`.
    """
    return attempt_id.split("#", 1)[0]


def route_of(attempt_id: str) -> str | None:
    """
    Read the route back; None where the activity is no attempt of a task.
    """
    parts = attempt_id.split("#")
    return parts[1] if len(parts) == 3 else None


class Contract(BaseModel):
    """
    A value that crosses a process: frozen, and strangers are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class State(Contract):
    """
    A value that may outlive the release that wrote it, in a history or on a queue.

    This is the one place that refuses what a newer release has written: the decoding
    fails, so the server keeps the task for a worker that can read it.
    """

    schema_number: int = Field(default=SCHEMA_NUMBER, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, raw: Any) -> Any:
        # Before any field: a newer release may have changed them all. No ValueError,
        # which would be one fault among others.
        number = raw.get("schema_number") if isinstance(raw, dict) else None
        if isinstance(number, int) and number > SCHEMA_NUMBER:
            name = raw.get("mission") or raw.get("id")
            raise NewerStateError(
                f"{name} was written by a newer release: its state has schema number "
                f"{number}, this release reads up to {SCHEMA_NUMBER}; start workers of "
                "the newer release and stop those of this one"
            )
        return raw


class Status(StrEnum):
    """
    How a task or a mission ends.
    """

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    PARKED = "parked"
    DEAD = "dead"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Approval(Contract):
    """
    A person's leave that a task needs, and what its absence means after *within_s*.
    """

    before: Moment
    within_s: float | None = Field(default=None, gt=0, le=30 * 86_400)
    otherwise: Literal["approve", "reject"] = "reject"


class Budget(Contract):
    """
    What one task may use, over all its attempts and rounds; its time is one round's.
    """

    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    time_s: float | None = Field(default=None, gt=0, le=30 * 86_400)


class Task(Contract):
    """
    One unit of agent work.
    """

    id: Name
    role: Name
    input: dict[str, JsonValue] = {}
    needs: list[Name] = []
    required: bool = True
    approval: Approval | None = None
    budget: Budget = Budget()


class Limits(Contract):
    """
    What a mission may use. Each cap is a promise to whoever shares the workers.
    """

    concurrency: int = Field(default=8, ge=1, le=100)
    tasks: int = Field(default=100, ge=1, le=500)
    depth: int = Field(default=20, ge=1, le=100)
    deadline_s: float = Field(default=86_400.0, gt=0, le=30 * 86_400)
    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    # How often agents may have one task done again before a person must look.
    redos: int = Field(default=2, ge=0, le=20)
    # How deep missions may lie within this one.
    generations: int = Field(default=3, ge=0, le=10)


class Member(Contract):
    """
    A role in the crew: where its tasks may run, in order, and its policy.
    """

    routes: list[Name] = Field(min_length=1)
    policy: Policy = Policy()


class Mission(State):
    """
    One goal, its plan and its limits.

    *crew* and *store*, the id of the store that has the mission's books, are filled in
    by the starter; one that is redriven after its end has a *past*.
    """

    id: Name
    goal: str = Field(min_length=1, max_length=2000)
    tasks: list[Task] = Field(min_length=1)
    limits: Limits = Limits()
    tenant: Name = "default"
    crew: dict[Name, Member] = {}
    store: str = ""
    past: "Past | None" = None
    parent: str = ""  # the mission within which it lies

    def digest(self) -> str:
        """
        Identify what was asked: everything but the id and who is there to do it.
        """
        # By any release: what it calls its state is not what was asked.
        untold = {"id", "crew", "store", "schema_number", "past", "parent"}
        # Without defaults: a field that a later release adds was not asked for.
        asked = self.model_dump(mode="json", exclude=untold, exclude_defaults=True)
        return digest(json.dumps(asked, sort_keys=True))


class Checkpoint(Contract):
    """
    Saved progress: *seq* counts the saves of this task's round.
    """

    seq: int = 0
    route: str = ""  # the role that saved it: another route cannot read it
    version: int = 1
    value: JsonValue = None
    blob: str | None = None  # digest of a value too large to travel


class Beat(Contract):
    """
    What travels in Temporal's heartbeat: the checkpoint, and what was said last.
    """

    checkpoint: Checkpoint = Checkpoint()
    said: str = ""


class Assignment(State):
    """
    What an attempt is told: its task, where to go on, and what came before it.
    """

    mission: BatchName  # or the batch that an item is of
    tenant: Name
    task: Task
    store: str = ""  # the id of the store with the mission's books
    round: int = 1
    needs: list[Name] = []  # the tasks whose results are there
    policy: Policy = Policy()
    limits: Limits = Limits()
    checkpoint: Checkpoint | None = None
    noticed_by: str | None = None  # what ended the attempt before this one
    redo_reason: str | None = None  # why there is a round after the first
    approved: bool = False  # a person has approved its effects


class Redo(Contract):
    """
    An agent's word that *task*, which it depends on, must be done again.

    :param result: what stands when that has been said too often; without one, a
        person must look then.
    """

    task: Name
    reason: str = Field(min_length=1)
    result: JsonValue = None

    @classmethod
    def of(cls, task: str, reason: str, result: BaseModel) -> "Redo":
        """
        Wrap a result model.
        """
        return cls(task=task, reason=reason, result=result.model_dump(mode="json"))


class Redoing(Contract):
    """
    What of a `Redo` travels: its result, if it *stands*, stays in the ledger.
    """

    task: Name
    reason: str
    stands: bool


class FollowUps(Contract):
    """
    An agent's result together with tasks that shall follow it.
    """

    result: JsonValue = None
    tasks: list[Task] = []

    @classmethod
    def of(cls, result: BaseModel, tasks: list[Task]) -> "FollowUps":
        """
        Wrap a result model.
        """
        return cls(result=result.model_dump(mode="json"), tasks=tasks)


class Spread(Contract):
    """
    An agent's result that many items are to be worked through by *role*, in the pool;
    its task ends when they are.
    """

    role: Name
    items: list[dict[str, JsonValue]]


class Spreading(Contract):
    """
    The batch that an agent has spread; as its task's result, for those that need it.
    """

    batch: BatchName
    role: Name
    items: int


class Answer(Contract):
    """
    What an attempt reports: the result itself stays in the ledger.
    """

    digest: str
    attempt: int
    summary: str = Field(default="", max_length=SUMMARY_CHARS)
    degraded: list[str] = []
    follow_ups: list[Task] = []
    spread: Spreading | None = None
    redo: Redoing | None = None


class Outcome(Contract):
    """
    How one task ended. *route* is the role that really did it.
    """

    id: Name
    role: Name
    route: Name
    status: Status
    attempts: int = 0
    required: bool = True
    reasons: list[str] = []
    summary: str = ""
    round: int = 1
    # A budget was spent: what needs it goes on without it.
    forgone: bool = False
    approval: str = ""  # what a person, or the deadline, has said


class Report(Contract):
    """
    How a mission ended, with what it lacks and why.
    """

    mission: Name
    status: Status
    tasks: list[Outcome]
    degraded: list[str] = []


class Running(Contract):
    """
    A task that is under way.
    """

    id: Name
    role: Name
    route: Name
    waits: str = ""  # parked: what for


class Asked(Contract):
    """
    A task that waits for a person: *about* says for what.
    """

    id: Name
    before: Moment
    about: str = ""


class Progress(Contract):
    """
    The answer to the query `progress`.
    """

    mission: Name
    paused: bool
    waiting: list[Name]
    running: list[Running]
    settled: list[Outcome]
    asked: list[Asked] = []


class Redrive(Contract):
    """
    Tasks to be done again, each from the checkpoint that it came to.
    """

    tasks: list[Name] = Field(min_length=1)
    checkpoints: dict[Name, Checkpoint] = Field(default={})


class Past(Contract):
    """
    What a mission that goes on has behind it: its plan as it was in the end, how its
    tasks ended, and what of that is redriven.

    :param authors: who has asked for a task, where that was an agent.
    """

    tasks: list[Task]
    authors: dict[Name, Name] = Field(default={})
    outcomes: list[Outcome]
    redrive: Redrive


def digest(text: str) -> str:
    """
    Fingerprint *text*.
    """
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def shorten(text: str, most: int) -> str:
    """
    Cut *text* to one line of at most *most* characters.
    """
    # Half a character, as in a file name that is no UTF-8, could not be sent.
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= most else line[: most - 1] + "…"
