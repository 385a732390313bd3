"""
What starter, workflows and agents say to each other. References travel, what they
name does not.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, Field, JsonValue, ValidationInfo, field_validator

from outlast.contracts.approvals import Moment
from outlast.contracts.failures import Detector
from outlast.contracts.ids import BatchId, MissionId, Name, WorkId, require_name
from outlast.contracts.policies import DEFAULT_TIMING, Policy
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.reports import ApprovalRequest, Outcome
from outlast.contracts.scopes import Scope
from outlast.contracts.text import SUMMARY_CHARS, sha256_hex
from outlast.contracts.wire import VersionedModel, WireModel


class Approval(WireModel):
    """
    A person's decision that a task needs.

    :param before: "start" of the task, or each "effect" of it.
    :param within_s: seconds to wait for the decision; None: as long as the mission may.
    :param otherwise: the decision when nobody has decided by then.
    """

    before: Moment
    within_s: float | None = Field(default=None, gt=0, le=30 * 86_400)
    otherwise: Literal["approve", "reject"] = "reject"


class Budget(WireModel):
    """
    What one task may use, over all its attempts and rounds; None: no limit.

    :param tokens: as `ctx.save` and `ctx.record_usage` count them.
    :param cost: in any unit, likewise.
    :param time_s: a round's length in seconds, waiting included.
    """

    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    time_s: float | None = Field(default=None, gt=0, le=30 * 86_400)


class Stored(WireModel):
    """
    Where a value lies that is too large to travel: in the store, among what is kept
    for the mission *owner*.
    """

    owner: WorkId
    digest: str
    size: int  # in bytes


class Task(WireModel):
    """
    One unit of work for one role.

    :param id: unique within the mission.
    :param role: of the agent; "mission" for a mission as its input.
    :param input: JSON that fits the agent's type; results of needed tasks are added to
        it, by task id, in its field `needs`.
    :param needs: ids of the tasks that must have ended before.
    :param required: the mission has failed if it has; an optional one may be skipped.
    :param approval: of a person, before it starts or acts.
    :param budget: of tokens, cost and time, beside the mission's.
    """

    id: Name
    role: Name
    input: dict[str, JsonValue] = Field(default={})
    stored: Stored | None = None  # the input, where it is too large: see inputs.py
    needs: list[Name] = Field(default=[])
    required: bool = True
    approval: Approval | None = None
    budget: Budget = Budget()


class Limits(WireModel):
    """
    What a mission may use.

    :param concurrency: tasks at a time.
    :param tasks: in all, with those that agents add.
    :param depth: of follow-ups of follow-ups.
    :param deadline_s: seconds from its start; what has not ended then is skipped.
    :param tokens: over all tasks; None: no limit.
    :param cost: over all tasks, in any unit; None: no limit.
    :param redos: how often agents may have one task redone before a person must look.
    :param generations: how deep missions may lie within this one.
    """

    concurrency: int = Field(default=8, ge=1, le=100)
    tasks: int = Field(default=100, ge=1, le=5_000)
    depth: int = Field(default=20, ge=1, le=5_000)
    deadline_s: float = Field(default=86_400.0, gt=0, le=30 * 86_400)
    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    redos: int = Field(default=2, ge=0, le=10_000)
    generations: int = Field(default=3, ge=0, le=10)


class RoleSpec(WireModel):
    """
    A role in the crew: where its tasks may run, in order, and its policy.
    """

    routes: list[Name] = Field(min_length=1)
    policy: Policy = Policy()


class Mission(VersionedModel):
    """
    One goal, its tasks and their limits.

    The fields that are not described here are filled in when it starts.

    :param id: used once; the same id with the same content joins the mission.
    :param goal: what it is for; shown, and not interpreted.
    :param tasks: the graph, without cycles.
    :param limits: what it may use.
    :param tenant: whose mission it is; batches of other tenants cannot be read.
    """

    # Where its effects' keys belong; None: its own id, which then is a user's name.
    scope: Scope | None = None
    id: MissionId
    goal: str = Field(min_length=1, max_length=2000)
    tasks: list[Task] = Field(min_length=1)
    limits: Limits = Limits()
    tenant: Name = "default"
    crew: dict[Name, RoleSpec] = Field(default={})
    store: str = ""
    # Of its attempts, by how many hosts the store serves: see `timing_of`.
    heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s
    prior_run: "PriorRun | None" = None
    parent: str = ""  # the mission within which it lies

    @field_validator("id")
    @classmethod
    def _is_composed_only_within(cls, id_: str, others: ValidationInfo) -> str:
        require_name(id_, is_users=others.data.get("scope") is None)
        return id_

    @property
    def logical(self) -> Scope:
        """
        The logical mission that this one carries out.
        """
        return self.scope or Scope(path=self.id)

    def digest(self) -> str:
        """
        Identify what was asked: everything but the id and who is there to do it.
        """
        # By any release: what it calls its state is not what was asked.
        untold = {
            "id",
            "crew",
            "store",
            "schema_number",
            "prior_run",
            "parent",
            "scope",
        }
        untold |= {"heartbeat_timeout_s"}
        # Without defaults: a field that a later release adds was not asked for.
        asked = self.model_dump(mode="json", exclude=untold, exclude_defaults=True)
        return sha256_hex(json.dumps(asked, sort_keys=True))


class Opening(WireModel):
    """
    What the first activity fills in where Temporal alone has started a mission, and
    whether the server knows our search attributes.
    """

    crew: dict[Name, RoleSpec] = Field(default={})
    store: str = ""
    heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s
    has_search_attributes: bool = False


def filled_in(mission: Mission, opening: Opening) -> Mission:
    """
    Put into *mission* what it lacked when Temporal alone had started it.
    """
    found = {"store": opening.store, "heartbeat_timeout_s": opening.heartbeat_timeout_s}
    return mission.model_copy(update={**found, "crew": opening.crew})


class Checkpoint(WireModel):
    """
    Saved progress: *seq* counts the saves of this task's round.
    """

    seq: int = 0
    route: str = ""  # the role that saved it: another route cannot read it
    version: int = 1
    value: JsonValue = None
    blob: str | None = None  # digest of a value too large to travel


class Heartbeat(WireModel):
    """
    What travels in Temporal's heartbeat: the checkpoint, and what was said last.
    """

    checkpoint: Checkpoint = Checkpoint()
    status_message: str = ""


class AttemptInput(VersionedModel):
    """
    What an attempt is told: its task, where to go on, and what came before it.
    """

    mission: WorkId  # or the batch that an item is of
    tenant: Name
    task: Task
    store: str = ""  # the id of the store with the mission's books
    round: int = 1
    needs: list[Name] = Field(default=[])  # the tasks whose results are there
    policy: Policy = Policy()
    limits: Limits = Limits()
    # Counts what the mission's workflow dispatches: see `AttemptOrder`.
    dispatch: int = 0
    checkpoint: Checkpoint | None = None
    # What ended the attempt before this one, in words, and what noticed it.
    previous_failure: str | None = None
    detected_by: Detector | None = None
    redo_reason: str | None = None  # why there is a round after the first
    scope: Scope | None = None  # where its effects' keys belong; None: its mission
    approved: list[str] = Field(default=[])  # effects, by digest
    skipped: list[str] = Field(default=[])  # effects for which an earlier one stands


class Redo(WireModel):
    """
    Return it to have an earlier task redone, and with it all that depends on that.

    :param task: id of the task, which this one depends on.
    :param reason: what is wrong; the redone agent reads it in `ctx.redo_reason`.
    :param result: of this task, used as degraded once `limits.redos` is reached;
        without one, the task is then parked for a person.
    """

    task: Name
    reason: str = Field(min_length=1)
    result: Any = None

    @classmethod
    def of(cls, task: str, reason: str, result: BaseModel) -> "Redo":
        """
        Wrap a result model.
        """
        return cls(task=task, reason=reason, result=result)


class RedoRequest(WireModel):
    """
    What of a `Redo` travels: its result, if it *stands*, stays in the ledger.
    """

    task: Name
    reason: str
    has_result: bool


class FollowUps(WireModel):
    """
    Return it to give a result and add tasks to the mission.

    :param result: of this task.
    :param tasks: checked as those of a mission; within `limits.tasks` and `depth`.
    """

    result: Any = None
    tasks: list[Task] = Field(default=[])

    @classmethod
    def of(cls, result: BaseModel, tasks: list[Task]) -> "FollowUps":
        """
        Wrap a result model.
        """
        return cls(result=result, tasks=tasks)


class FanOut(WireModel):
    """
    Return it to have items worked through in the pool; the task ends when they are.

    The task's result is `{"batch": ID, "role": ..., "items": COUNT}`, and
    `ctx.batch_results(ID)` reads the results.

    :param role: of the agent that is called for each item.
    :param items: inputs of that agent, checked by its type.
    """

    role: Name
    items: list[dict[str, JsonValue]]


class FanOutRef(WireModel):
    """
    The batch that an agent has spread; as its task's result, for those that need it.
    """

    batch: BatchId
    role: Name
    items: int


class ResultRef(WireModel):
    """
    What an attempt reports: the result itself stays in the ledger.
    """

    digest: str
    size: int = 0  # of the result, in bytes as JSON
    attempt: int
    summary: str = Field(default="", max_length=SUMMARY_CHARS)
    degraded: list[str] = Field(default=[])
    follow_ups: list[Task] = Field(default=[])
    fan_out: FanOutRef | None = None
    redo_request: RedoRequest | None = None


class Redrive(WireModel):
    """
    Tasks to be done again, each from the checkpoint that it came to.
    """

    tasks: list[Name] = Field(min_length=1)
    checkpoints: dict[Name, Checkpoint] = Field(default={})


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
