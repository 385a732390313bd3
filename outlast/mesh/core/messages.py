"""
What peers say to each other, and how it is packed.

A message may be lost, doubled or late: nothing hangs on one. What cannot be read is
refused as MalformedMessageError, for the caller to count, and changes nothing.
"""

import zlib
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from outlast.contracts.errors import MalformedMessageError
from outlast.contracts.ids import Name, Origin
from outlast.contracts.mesh_timing import MESH_MESSAGE_BYTES, MESH_UNPACKED_BYTES
from outlast.contracts.wire import WireModel
from outlast.mesh.core.events import Seq
from outlast.mesh.core.replicated_log import EventSpan

HighWater = dict[Origin, Seq]


class MeshMessage(WireModel):
    """
    By whom, and in which of its lives: what an earlier life had, it may have lost.
    """

    sender: Name
    incarnation: int


class Digest(MeshMessage):
    """
    What the sender has: its fingerprint, and in full when that is worth its bytes.

    :param ask: the receiver shall answer in full, with this number.
    :param answers: the number of the request that this answers.
    :param rebuilding: *heads* are what of a compacted log has come so far.
    """

    kind: Literal["digest"] = "digest"
    summary: str = Field(max_length=64)
    high_water: HighWater | None = None
    ask: int | None = None
    answers: int | None = None
    rebuilding: bool = False


class Events(MeshMessage):
    """
    A chunk of events.

    :param more: there is more that the receiver lacks; its Ack brings the next chunk.
    :param rebuilding: the chunk is of a log that was compacted past the receiver's.
    """

    kind: Literal["events"] = "events"
    spans: list[EventSpan]
    more: bool = False
    rebuilding: bool = False


class Ack(MeshMessage):
    """
    What the sender has of the origins of a chunk by now, durably.

    :param send_more: the next chunk, please.
    """

    kind: Literal["ack"] = "ack"
    high_water: HighWater
    send_more: bool = False


class Rebuild(MeshMessage):
    """
    You lack what was compacted away here: ask again, as if you had nothing.
    """

    kind: Literal["rebuild"] = "rebuild"


Message = Digest | Events | Ack | Rebuild
_messages: TypeAdapter[Message] = TypeAdapter(
    Annotated[Message, Field(discriminator="kind")]
)


def pack(message: Message) -> bytes:
    """
    Write *message* for the wire.

    :raises MalformedMessageError: when it is larger than the wire takes.
    """
    text = message.model_dump_json(exclude_defaults=True, exclude={"kind"})
    raw = f'{{"kind":"{message.kind}",{text[1:]}'.encode()
    packed = zlib.compress(raw, 1)
    if len(packed) > MESH_MESSAGE_BYTES:
        raise MalformedMessageError(
            f"a message of {len(packed)} bytes is larger than {MESH_MESSAGE_BYTES}"
        )
    return packed


def unpack(packed: bytes) -> Message:
    """
    Read what *pack* has written.

    :raises MalformedMessageError: when it is anything else.
    """
    try:
        unfolding = zlib.decompressobj()
        raw = unfolding.decompress(packed, MESH_UNPACKED_BYTES)
        if unfolding.unconsumed_tail or not unfolding.eof:
            raise MalformedMessageError("a message that is cut off or too large")
        return _messages.validate_json(raw)
    except (zlib.error, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise MalformedMessageError(f"a message that cannot be read: {said}") from None
