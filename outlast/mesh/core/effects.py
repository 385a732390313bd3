"""
What the core asks of the shell, which carries it out in the order given.

Record comes first, and is durable before anything after it is done: what a peer has
said or begun, it still knows after its death.
"""

from dataclasses import dataclass, field

from pydantic import JsonValue

from outlast.mesh.core.events import CheckpointSaved, SubtaskFinished
from outlast.mesh.core.messages import Message
from outlast.mesh.core.ownership import Adoption
from outlast.mesh.core.replicated_log import LogChange


@dataclass(frozen=True)
class RecordChange:
    """
    Follow *change* in the durable log, in one transaction. If that fails the process
    must end: the core in memory is ahead of its log.
    """

    change: LogChange


@dataclass(frozen=True)
class SendMessage:
    """
    Send *message* (packed) to the live peer *to*; failing is no fault, and not told.
    """

    to: str
    message: Message


@dataclass(frozen=True)
class StartRun:
    """
    See to it that *task* runs here under its `MeshRunId`: start it, or join it,
    and unpause it. The same Run may come again.

    :param mission: the mission as submitted, under its own id.
    :param progress: the furthest progress known of each of the mission's tasks, to
        go on from: a checkpoint, or a result that need not be made again.
    """

    task: str
    epoch: int
    mission: dict[str, JsonValue]
    progress: dict[str, CheckpointSaved | SubtaskFinished] = field(default_factory=dict)


@dataclass(frozen=True)
class SuspendRun:
    """
    Pause the run: this peer may have been declared dead, and must look first. A Run or
    a Cancel of the same follows.
    """

    task: str
    epoch: int


@dataclass(frozen=True)
class CancelRun:
    """
    Cancel the run: it is finished elsewhere, or somebody else has it. Its report need
    not be told to the core, and does no harm.

    :param by: who has it now; None when it is finished. Where that peer shares this
        one's endpoint and has the same epoch, both are one run, which goes on.
    """

    task: str
    epoch: int
    by: Adoption | None


@dataclass(frozen=True)
class AckSubmission:
    """
    Tell whoever submitted *task* that it is kept in *copies* peers' logs by now. Comes
    once for each `submitted`, soon: with as many as were asked for, or with fewer when
    those did not come in time.
    """

    task: str
    copies: int


@dataclass(frozen=True)
class AnnounceReady:
    """
    Tell the membership whether this peer is `ready`, as part of its facts.
    """

    ready: bool


MeshEffect = (
    RecordChange
    | SendMessage
    | StartRun
    | SuspendRun
    | CancelRun
    | AckSubmission
    | AnnounceReady
)
