"""
What the processes of a fleet tell each other, each message one line of JSON. Both ends
are of one release and on one host.
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
    From the parent, to the fork server or to a spare: be or fork a worker.
    """

    type: Literal["start"] = "start"
    kind: ProcessKind


class Importing(WireModel):
    """
    From what warms up, before each module of agents; None when all are imported.
    """

    type: Literal["importing"] = "importing"
    module: str | None


class Warm(WireModel):
    """
    Everything is imported.
    """

    type: Literal["warm"] = "warm"


class ForkUnsafe(WireModel):
    """
    From the fork server: no worker can be forked from it.
    """

    type: Literal["unsafe"] = "unsafe"
    why: str


class ForkFailed(WireModel):
    """
    From the fork server: the machine has no room for another process now.
    """

    type: Literal["not_forked"] = "not_forked"
    why: str


class Forked(WireModel):
    """
    :param mark: what the worker and all that it starts carry.
    """

    type: Literal["forked"] = "forked"
    pid: int
    mark: int


class Died(WireModel):
    """
    A forked worker is dead, as is all that it had started.
    """

    type: Literal["died"] = "died"
    pid: int
    code: int | None


class StateChanged(WireModel):
    type: Literal["state"] = "state"
    state: ProcessState


class Hosted(WireModel):
    """
    From a worker, before it polls.

    :param isolated: roles whose attempts have a process each.
    :param polls: False where all of its roles are such.
    """

    type: Literal["hosted"] = "hosted"
    isolated: int
    polls: bool


class Counted(WireModel):
    """
    What a worker has counted since it last told.

    :param recovered: the detector and seconds of each recovery.
    :param breakers: the service and new state of each change.
    """

    type: Literal["counted"] = "counted"
    counts: dict[str, int]
    recovered: list[tuple[Detector, float]]
    breakers: list[tuple[str, str]]


class StoreGone(WireModel):
    """
    From a worker: no waiting brings the store back.
    """

    type: Literal["store_gone"] = "store_gone"
    why: str


class Exiting(WireModel):
    """
    From a worker, or from what warms up: it ends by itself.
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
