"""
What lies where in a flight recorder: a header, then one slot for each attempt.
"""

import json
import mmap
import zlib
from ctypes import (
    Array,
    Structure,
    c_bool,
    c_char,
    c_double,
    c_uint8,
    c_uint16,
    c_uint32,
    sizeof,
)
from functools import cache
from typing import Any, NamedTuple

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.sizes import CHECKPOINT_BYTES

SLOTS = 128
HEAD_BYTES = 4096  # the task token and the ids, as long as the server takes them
HALF_BYTES = CHECKPOINT_BYTES + 512
TROUBLE_BYTES = 480

FREE, IN_HAND, RETURNED = 0, 1, 2


class Names(NamedTuple):
    """
    Whose attempt has a slot; the task token is in base64.
    """

    token: str
    mission: str
    task: str
    route: str
    attempt: int


class Part(Structure):
    @classmethod
    def put(cls, body: mmap.mmap, at: int, **values: Any) -> None:
        """
        Write fields of the part that begins at *at*, in this order.

        Not by a view: a process that an agent forks meanwhile could not close the map.
        """
        places = _places(cls)
        for name, value in values.items():
            offset, kind = places[name]
            encoded = value if isinstance(value, bytes) else bytes(kind(value))
            body[at + offset : at + offset + len(encoded)] = encoded


@cache
def _places(part: type[Part]) -> dict[str, tuple[int, Any]]:
    return {
        name: (getattr(part, name).offset, kind) for name, kind, *_ in part._fields_
    }


class Header(Part):
    """
    The state of the worker.
    """

    _pack_ = 1
    _fields_ = (
        ("ticked_at", c_double),  # monotonic seconds; its event loop turned
        ("drained", c_bool),
        ("leaked", c_uint16),  # calls that run on though their attempts are over
        ("kills_itself", c_bool),  # it was about to send a SIGKILL to itself
        ("_unused", c_char * 4),
        # What it waits for at the store, since when in seconds since 1970. Here, since
        # no disk is too full for it.
        ("waits_since", c_double),
        ("waits_bytes", c_uint16),
        ("_unused_too", c_char * 6),
        ("waits_for", c_char * TROUBLE_BYTES),
    )


class Checksum(Structure):
    """
    Length and checksum of a half; a half with others was not written to its end.
    """

    _pack_ = 1
    _fields_ = (("size", c_uint32), ("crc", c_uint32))


class Slot(Part):
    """
    One attempt. A checkpoint is written to the half that is not valid, which then
    becomes the valid one: a death in the middle leaves the earlier checkpoint.
    """

    _pack_ = 1
    _fields_ = (
        ("state", c_uint8),
        ("valid_half", c_uint8),
        ("returned_at", c_double),
        ("head_bytes", c_uint32),
        ("leaked", c_uint16),  # calls of this attempt
        ("checksums", Checksum * 2),
        ("head", c_char * HEAD_BYTES),
        ("halves", (c_char * HALF_BYTES) * 2),
    )

    @classmethod
    def put_half(cls, body: mmap.mmap, at: int, half: int, encoded: bytes) -> None:
        start = at + cls.halves.offset + half * HALF_BYTES
        body[start : start + len(encoded)] = encoded
        checksum = bytes(Checksum(len(encoded), zlib.crc32(encoded)))
        start = at + cls.checksums.offset + half * len(checksum)
        body[start : start + len(checksum)] = checksum

    def was_held(self, since: float) -> bool:
        state: int = self.state
        returned = state == RETURNED and self.returned_at >= since
        return state == IN_HAND or returned

    def names(self) -> Names:
        """
        :raises ValueError: when it cannot be read.
        """
        try:
            return Names(*json.loads(self.head[: self.head_bytes]))
        except TypeError as error:
            raise ValueError(str(error)) from None

    def checkpoint(self) -> Checkpoint | None:
        """
        Read the last checkpoint that was written to its end.

        :raises ValueError: when it is none of ours.
        """
        valid = self.valid_half & 1
        for half in (valid, 1 - valid):
            checksum, encoded = self.checksums[half], self.halves[half].raw
            encoded = encoded[: checksum.size]
            if checksum.size and zlib.crc32(encoded) == checksum.crc:
                return Checkpoint.model_validate_json(encoded)
        return None


class Recorder(Structure):
    _pack_ = 1
    _fields_ = (("header", Header), ("slots", Slot * SLOTS))
    slots: Array[Slot]


RECORDER_BYTES = sizeof(Recorder)
HEADER_AT = 0


def slot_at(number: int) -> int:
    return sizeof(Header) + number * sizeof(Slot)
