"""
What is left of a dead worker's flight recorder, and what a live one's shows.

Only who holds the lock, which the kernel drops at death, may settle what lies in it.
"""

import fcntl
import json
import logging
import mmap
import os
import struct
import time
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from outlast.contracts.attempts import Checkpoint
from outlast.fleet.flight_recorder import (
    DRAINED_AT,
    HALF_BYTES,
    HALVES_AT,
    HEAD_AT,
    HEADER,
    IN_HAND,
    RECORDER_BYTES,
    RECORDER_HEADER_BYTES,
    RELEASED_FOR_S,
    RETURNED,
    SIZES,
    SIZES_AT,
    SLOT,
    SLOT_BYTES,
    SLOTS,
    STORE_TROUBLE,
    TROUBLE_AT,
    WORDS_AT,
)
from outlast.fleet.process_kinds import STACK_SUFFIX
from outlast.store.calls import StoreTrouble

logger = logging.getLogger("outlast.fleet")

T = TypeVar("T")

# So long a role counts as in hand after its last attempt has returned.
RECENT_S = 0.2
# What a process says of itself is true for so long after its last tick.
FRESH_TICK_S = 10.0


@dataclass(frozen=True)
class InFlightAttempt:
    """
    An attempt that a worker had in hand when it died.
    """

    token: bytes
    mission: str
    task: str
    route: str
    attempt: int
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class LeakedCall:
    """
    An attempt that is over for its mission while its code still runs in a live worker.

    :param calls: how many of its calls do; a lease may have several.
    """

    mission: str
    task: str
    role: str
    attempt: int
    calls: int


class CrashedRecorder:
    """
    The parent's side: what a dead worker's recorder says. It holds the file's lock for
    as long as it lives, since the map keeps the file open.

    :param clock: must be the worker's.
    """

    def __init__(self, body: mmap.mmap, clock: Callable[[], float] = time.monotonic):
        self._body = body
        self._clock = clock

    @classmethod
    def open(cls, path: Path) -> "CrashedRecorder | None":
        """
        Read the recorder at *path*; None while its worker lives, or without one.
        """
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None  # there is none, or no room for another open file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(file).st_size:
                _remove_empty(path, file)
                return None
            return cls(mmap.mmap(file, 0, prot=mmap.PROT_READ))
        except OSError:
            return None  # its worker lives, or the file cannot be read just now
        finally:
            os.close(file)

    @property
    def was_drained(self) -> bool:
        """
        Whether the worker had handed everything on: its end is no crash.
        """
        return len(self._body) == RECORDER_BYTES and bool(self._body[DRAINED_AT])

    def in_flight(self) -> Iterator[InFlightAttempt]:
        """
        Tell the attempts that nobody has reported, or perhaps nobody.
        """
        if len(self._body) != RECORDER_BYTES or self.was_drained:
            return
        for at in _slots():
            state, valid, returned_at, _, _ = SLOT.unpack_from(self._body, at)
            late = self._clock() - returned_at > RELEASED_FOR_S
            if state == IN_HAND or (state == RETURNED and not late):
                try:
                    yield self._slot(at, valid)
                except ValueError:
                    # Not ours to guess: it is left to its heartbeat timeout.
                    logger.exception("recorder.unreadable: the slot at %s", at)

    def working_on(self) -> Iterator[InFlightAttempt]:
        """
        Tell the attempts that have not returned.
        """
        for at in _slots():
            state, valid, *_ = SLOT.unpack_from(self._body, at)
            if state == IN_HAND:
                with suppress(ValueError):  # its worker is just writing it
                    yield self._slot(at, valid)

    def _slot(self, at: int, valid: int) -> InFlightAttempt:
        token, mission, task, route, attempt = _head(self._body, at)
        return InFlightAttempt(
            token=b64decode(token),
            mission=mission,
            task=task,
            route=route,
            attempt=attempt,
            checkpoint=self._checkpoint(at, valid) or self._checkpoint(at, 1 - valid),
        )

    def _checkpoint(self, at: int, half: int) -> Checkpoint | None:
        sizes = at + SIZES_AT + half * SIZES.size
        size, checksum = SIZES.unpack_from(self._body, sizes)
        start = at + HALVES_AT + half * HALF_BYTES
        encoded = self._body[start : start + size]
        if not size or zlib.crc32(encoded) != checksum:
            return None
        return Checkpoint.model_validate_json(encoded)


def _remove_empty(path: Path, file: int) -> None:
    """
    Remove the recorder of a worker that died before it had made it, and not what a
    newborn has put in its place.
    """
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file), path.stat()):
            remove(path)


def recorder_files(folder: Path) -> list[Path]:
    """
    List the recorders that lie in *folder*.
    """
    return sorted(folder.glob("*.rec"))


def remove(path: Path) -> None:
    """
    Delete a recorder that has been settled, and the stacks beside it.
    """
    path.with_suffix(STACK_SUFFIX).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def last_tick(path: Path) -> float | None:
    """
    Read when the worker's event loop turned last, in monotonic seconds.
    """
    header = _header(path)
    return header[0] if header else None


def _header(path: Path) -> tuple[float, bool, int, bool] | None:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        tick, drained, leaks, own_kill = HEADER.unpack(os.read(file, HEADER.size))
    except (OSError, struct.error):
        return None
    else:
        return tick, drained, leaks, own_kill
    finally:
        os.close(file)


def read_store_trouble(path: Path) -> StoreTrouble | None:
    """
    Read what a live worker waits for at the store, if anything.
    """
    try:
        with path.open("rb") as file:
            head = file.read(RECORDER_HEADER_BYTES)
        tick = HEADER.unpack_from(head)[0]
        since, length = STORE_TROUBLE.unpack_from(head, TROUBLE_AT)
    except (OSError, struct.error):
        return None
    if not length or time.monotonic() - tick > FRESH_TICK_S:
        return None
    words = head[WORDS_AT : WORDS_AT + length].decode(errors="replace")
    return StoreTrouble(words, since)


def count_in_flight(path: Path) -> int:
    """
    Count the attempts that a live worker has in hand.
    """
    return _read_mapped(
        path, lambda body: sum(body[at] == IN_HAND for at in _slots()), 0
    )


def count_leaked(path: Path) -> int:
    """
    Count the calls that still run in a live worker though their attempts are over.
    """
    header = _header(path)
    return header[2] if header else 0


def has_killed_itself(path: Path) -> bool:
    """
    Say whether a worker was about to send a SIGKILL to itself when it ended.
    """
    header = _header(path)
    return header is not None and header[3]


def leaked_calls(path: Path) -> list[LeakedCall]:
    """
    Tell whose code still runs in a live worker though the attempt is over.
    """
    if not count_leaked(path):
        return []
    return _read_mapped(path, lambda body: list(_leaked(body)), [])


def attempts_in_flight(path: Path) -> list[InFlightAttempt]:
    """
    Read the attempts that a live worker has in hand.
    """
    return _read_mapped(path, lambda body: list(CrashedRecorder(body).working_on()), [])


def roles_in_flight(path: Path) -> set[str]:
    """
    Tell which roles a live worker plays for what it has in hand, or has just handed
    on.
    """
    return _read_mapped(
        path, lambda body: {head[3] for head in _recent_heads(body)}, set()
    )


def names_in_flight(path: Path) -> list[str]:
    """
    Name the tasks that a live worker has in hand, or has just handed on.
    """
    return _read_mapped(
        path, lambda body: [f"{h[1]}/{h[2]}" for h in _recent_heads(body)], []
    )


def _read_mapped(path: Path, read: Callable[[mmap.mmap], T], otherwise: T) -> T:
    """
    Read the recorder at *path* without its lock.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as body,
        ):
            return read(body)
    except (OSError, ValueError, IndexError, struct.error):
        return otherwise  # its worker has not begun to write it, or it is gone


def _slots() -> Iterator[int]:
    """
    Tell where the slots begin.
    """
    return (RECORDER_HEADER_BYTES + number * SLOT_BYTES for number in range(SLOTS))


def _recent_heads(body: mmap.mmap) -> Iterator[list[Any]]:
    for at in _slots():
        state, _, returned_at, _, _ = SLOT.unpack_from(body, at)
        lately = time.monotonic() - returned_at < RECENT_S
        if state == IN_HAND or (state == RETURNED and lately):
            with suppress(ValueError):  # its worker is just writing another one there
                yield _head(body, at)


def _leaked(body: mmap.mmap) -> Iterator[LeakedCall]:
    for at in _slots():
        calls = SLOT.unpack_from(body, at)[4]
        if calls:
            with suppress(ValueError):  # its worker is just writing another one there
                _, mission, task, role, attempt = _head(body, at)
                yield LeakedCall(mission, task, role, attempt, calls)


def _head(body: mmap.mmap, at: int) -> list[Any]:
    """
    Read who has the slot at *at*: token, mission, task, route, attempt.
    """
    size = SLOT.unpack_from(body, at)[3]
    found: list[Any] = json.loads(body[at + HEAD_AT : at + HEAD_AT + size])
    return found
