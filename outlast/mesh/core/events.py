"""
The facts of the mesh: what happened, by whom it was noted, and in which order there.

An event never changes. Its body is text that peers of any release carry on; who does
not understand it keeps it for those who do.
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

# PostgreSQL's largest number; nobody counts so far.
Seq = Annotated[int, Field(ge=1, lt=2**63)]
Key = tuple[str, int]  # origin and sequence


class Fact(BaseModel):
    """
    The body of an event. Fields that a newer release has added are passed over.
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
    # What its owner must play: of each list one.
    roles: list[list[Name]]
    copies: int = Field(ge=1)  # asked for


class TaskAdopted(Fact):
    """
    *owner* runs the task from now on, under the id its `MeshRunId`.
    """

    kind: Literal["task.adopted"] = "task.adopted"
    task: Name
    epoch: int = Field(ge=1)
    owner: Name


class CheckpointSaved(Fact):
    """
    Progress inside *part*, one of the mission's tasks.
    """

    kind: Literal["checkpoint.saved"] = "checkpoint.saved"
    task: Name
    epoch: int = Field(ge=1)
    subtask: Name
    round: int = 1
    checkpoint: Checkpoint


class SubtaskFinished(Fact):
    """
    The result of *part*, one of the mission's tasks, as the ledger has it.
    """

    kind: Literal["part.finished"] = "part.finished"
    task: Name
    epoch: int = Field(ge=1)
    subtask: Name
    round: int = 1
    answer: str  # JSON of the result and of what travels of it


class TaskFinished(Fact):
    """
    One run of the task has ended. *knew* are the peers that its owner saw alive then,
    itself among them: the mark of the group that it worked in.
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
    *peer* is of the mesh, for the *nth* time.
    """

    kind: Literal["peer.joined"] = "peer.joined"
    peer: Name
    join_count: int = Field(ge=1)


class PeerForgotten(Fact):
    """
    The mesh waits no longer for *peer*, since it joined the *nth* time.
    """

    kind: Literal["peer.forgotten"] = "peer.forgotten"
    peer: Name
    join_count: int = Field(ge=1)


AnyFact = (
    TaskSubmitted
    | TaskAdopted
    | CheckpointSaved
    | SubtaskFinished
    | TaskFinished
    | PeerJoined
    | PeerForgotten
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
        """
        About how many bytes it takes to send.
        """
        return len(self.body) + 200

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
    """
    Put *fact* into its envelope.
    """
    body = fact.model_dump_json()
    return MeshEvent.model_construct(origin=origin, seq=seq, at_s=at_s, body=body)


def dumped(model: BaseModel) -> dict[str, Any]:
    """
    Write a model of the contracts as events carry it.
    """
    return model.model_dump(mode="json", exclude_defaults=True)
