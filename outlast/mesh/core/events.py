"""
The facts of the mesh: what happened, by whom it was noted, and in which order there.

An event never changes. Its body is text that peers of any release pass on; a peer that
does not understand it keeps it for those that do.
"""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import Name, Origin
from outlast.contracts.reports import MissionStatus
from outlast.contracts.wire import WireModel

# PostgreSQL's largest bigint, far above any real count.
Seq = Annotated[int, Field(ge=1, lt=2**63)]
Key = tuple[str, int]  # origin and sequence


class Fact(BaseModel):
    """
    The body of an event. Fields that a newer release has added are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskSubmitted(Fact):
    """
    Somebody asked for a mission; *task* is the mission's id.
    """

    kind: Literal["task.submitted"] = "task.submitted"
    task: Name
    mission: dict[str, JsonValue]  # as its model dumps it
    digest: str
    roles: list[list[Name]]  # its owner must play one of each list
    copies: int = Field(ge=1)  # asked for


class TaskAdopted(Fact):
    """
    *owner* runs the task from now on, as the mission `MeshRunId`.
    """

    kind: Literal["task.adopted"] = "task.adopted"
    task: Name
    epoch: int = Field(ge=1)
    owner: Name


class CheckpointSaved(Fact):
    """
    Progress inside *subtask*, one of the mission's tasks.
    """

    kind: Literal["checkpoint.saved"] = "checkpoint.saved"
    task: Name
    epoch: int = Field(ge=1)
    subtask: Name
    round: int = 1
    checkpoint: Checkpoint


class SubtaskFinished(Fact):
    """
    The result of *subtask*, one of the mission's tasks, as the ledger has it.
    """

    kind: Literal["part.finished"] = "part.finished"
    task: Name
    epoch: int = Field(ge=1)
    subtask: Name
    round: int = 1
    answer: str  # JSON of the result and of what travels of it


class TaskFinished(Fact):
    """
    One run of the task has ended. *partition_members* are the peers that its owner saw
    alive then, itself among them: they tell on which side of a split it ran.
    """

    kind: Literal["task.finished"] = "task.finished"
    task: Name
    epoch: int = Field(ge=1)
    owner: Name
    status: MissionStatus
    report: dict[str, JsonValue]  # as its model dumps it
    digest: str
    partition_members: list[Name]


class PeerJoined(Fact):
    """
    *peer* belongs to the mesh; *join_count* counts how often it has joined.
    """

    kind: Literal["peer.joined"] = "peer.joined"
    peer: Name
    join_count: int = Field(ge=1)


class PeerForgotten(Fact):
    """
    The mesh no longer waits for *peer*, which has joined *join_count* times so far.
    """

    kind: Literal["peer.forgotten"] = "peer.forgotten"
    peer: Name
    join_count: int = Field(ge=1)


Progressed = CheckpointSaved | SubtaskFinished
AnyFact = (
    TaskSubmitted | TaskAdopted | Progressed | TaskFinished | PeerJoined | PeerForgotten
)
_facts: TypeAdapter[AnyFact] = TypeAdapter(
    Annotated[AnyFact, Field(discriminator="kind")]
)


class MeshEvent(WireModel):
    """
    One fact in its envelope. *at_s* is the origin's wall clock: for people to read and
    to break ties, never to order.
    """

    origin: Origin
    seq: Seq
    at_s: float = Field(allow_inf_nan=False)
    body: str

    @property
    def key(self) -> Key:
        return self.origin, self.seq

    @property
    def size(self) -> int:
        return len(self.body) + 200  # about what it takes to send, in bytes

    @cached_property
    def fact(self) -> AnyFact | None:
        """
        What it says; None when this release does not understand it.
        """
        try:
            return _facts.validate_json(self.body)
        except ValidationError:
            return None

    def __hash__(self) -> int:
        return hash(self.key)


def event(origin: str, seq: int, at_s: float, fact: AnyFact) -> MeshEvent:
    body = fact.model_dump_json()
    return MeshEvent.model_construct(origin=origin, seq=seq, at_s=at_s, body=body)


def dumped(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_defaults=True)
