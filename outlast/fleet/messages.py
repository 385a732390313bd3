"""
What the processes of a fleet tell each other, each message one line of JSON. Both ends
are of one release and on one host.

The parent sends `StartWorker`. A fork server or a spare sends `Importing`, then `Warm`;
the fork server then answers by `Forked`, `ForkFailed` or `ForkUnsafe`, and tells of
each end by `Died`. A worker sends the others.
"""

import contextlib
import socket
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from outlast.contracts.failures import Detector
from outlast.contracts.wire import WireModel
from outlast.fleet.process_kinds import ExitReason, ProcessKind, ProcessState

# What the parent writes to a worker to have it drained; SIGTERM may be the agents' own.
DRAIN_REQUEST = b"drain\n"


class StartWorker(WireModel):
    """
    To the fork server, or to a spare, which is to become that worker.
    """

    type: Literal["start"] = "start"
    kind: ProcessKind


class Importing(WireModel):
    type: Literal["importing"] = "importing"
    module: str | None  # of agents; None when all are imported


class Warm(WireModel):
    type: Literal["warm"] = "warm"


class ForkUnsafe(WireModel):
    type: Literal["unsafe"] = "unsafe"
    why: str


class ForkFailed(WireModel):
    type: Literal["not_forked"] = "not_forked"
    why: str  # the machine has no room for another process


class Forked(WireModel):
    type: Literal["forked"] = "forked"
    pid: int
    mark: int  # which the worker and all that it starts carry


class Died(WireModel):
    type: Literal["died"] = "died"
    pid: int  # of a worker, dead as is all that it had started
    code: int | None


class StateChanged(WireModel):
    type: Literal["state"] = "state"
    state: ProcessState


class Hosted(WireModel):
    type: Literal["hosted"] = "hosted"
    isolated: int  # roles whose attempts have a process each
    polls: bool  # False where all of its roles are such


class Counted(WireModel):
    """
    What was counted since the last such message.
    """

    type: Literal["counted"] = "counted"
    counts: dict[str, int]
    recovered: list[tuple[Detector, float]]  # with seconds
    breakers: list[tuple[str, str]]  # service and new state


class StoreGone(WireModel):
    type: Literal["store_gone"] = "store_gone"
    why: str  # no waiting brings it back


class Exiting(WireModel):
    """
    It ends by itself; also from a process that cannot import the agents.
    """

    type: Literal["exiting"] = "exiting"
    reason: ExitReason
    why: str


Message = (StartWorker | Importing | Warm | ForkUnsafe | ForkFailed | Forked | Died) | (
    StateChanged | Hosted | Counted | StoreGone | Exiting
)
_message: TypeAdapter[Message] = TypeAdapter(
    Annotated[Message, Field(discriminator="type")]
)


def encode(message: Message) -> bytes:
    return message.model_dump_json().encode() + b"\n"


def decode(line: bytes) -> Message:
    return _message.validate_json(line)


def send(channel: socket.socket, message: Message) -> None:
    """
    Send *message*, unless nobody is there any more to read it.
    """
    with contextlib.suppress(OSError):
        channel.sendall(encode(message))
