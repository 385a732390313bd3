"""
What the core asks of its node, which applies it in the order given.

`RecordChange` comes first, and is durable before anything after it is done: what a peer
has sent or started, it still knows after a crash.
"""

from dataclasses import dataclass, field

from pydantic import JsonValue

from outlast.contracts.ids import MeshRunId
from outlast.mesh.core.events import Progressed
from outlast.mesh.core.messages import Message
from outlast.mesh.core.ownership import Adoption
from outlast.mesh.core.replicated_log import LogChange


@dataclass(frozen=True)
class RecordChange:
    """
    Follow *change* in the durable log, in one transaction. If that fails the process
    must end, since the core in memory is ahead of its log.
    """

    change: LogChange


@dataclass(frozen=True)
class SendMessage:
    """
    Send *message* to the live peer *to*; a failure is no fault, and not reported.
    """

    to: str
    message: Message


@dataclass(frozen=True)
class StartRun:
    """
    See to it that *run* is under way here: start it, join it, or resume it. The same
    effect may come again.

    :param mission: the mission as submitted, under its own id.
    :param progress: the furthest known of each of the mission's tasks, to continue
        from: a checkpoint, or a result that need not be made again.
    """

    run: MeshRunId
    mission: dict[str, JsonValue]
    progress: dict[str, Progressed] = field(default_factory=dict)


@dataclass(frozen=True)
class SuspendRun:
    """
    Suspend the run: this peer may have been declared dead. A `StartRun` or `CancelRun`
    of the same run follows.
    """

    run: MeshRunId


@dataclass(frozen=True)
class CancelRun:
    """
    Cancel the run: it is finished elsewhere, or another peer has it. The core does not
    need its report.

    :param by: who has it now; None when it is finished. Where that peer shares this
        one's endpoint and has the same epoch, both are one run, which goes on.
    """

    run: MeshRunId
    by: Adoption | None


@dataclass(frozen=True)
class AckSubmission:
    """
    Answer the submission of *task*: *copies* peers have it in their logs. Comes once
    for each, with fewer copies than were asked for after MESH_ACK_S.
    """

    task: str
    copies: int


@dataclass(frozen=True)
class AnnounceReady:
    """
    Tell the other peers whether this one is ready.
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
