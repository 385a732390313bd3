"""
What a dead worker's flight recorder holds, and what a live one's shows.

A dead worker's attempts are for the process that gets the file's lock, which the kernel
drops at death. A live worker's recorder is read without it, so a slot that its worker
is just writing is left out.
"""

import fcntl
import logging
import mmap
import os
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes import sizeof
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from outlast.contracts.attempts import Checkpoint
from outlast.fleet.flight_recorder import RELEASED_FOR_S
from outlast.fleet.process_kinds import RECORDER_SUFFIX, STACK_SUFFIX
from outlast.fleet.recorder_layout import (
    IN_HAND,
    RECORDER_BYTES,
    Header,
    Names,
    Recorder,
    Slot,
)
from outlast.store.calls import StoreTrouble

logger = logging.getLogger("outlast.fleet")

T = TypeVar("T")

# So long a role counts as busy after its last attempt has returned.
RECENT_S = 0.2
# A header is believed for so long after the last tick.
FRESH_TICK_S = 10.0


@dataclass(frozen=True)
class InFlightAttempt:
    """
    An attempt that a worker works on, or worked on when it died.
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
    A dead worker's recorder. It holds the file's lock for as long as it lives.

    :param clock: must be the worker's.
    """

    def __init__(self, body: mmap.mmap, clock: Callable[[], float] = time.monotonic):
        self._body = body  # which keeps the file open, and with it the lock
        whole = len(body) == RECORDER_BYTES  # its worker had finished making it
        self._recorder = Recorder.from_buffer(body) if whole else Recorder()
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
            return cls(mmap.mmap(file, 0, access=mmap.ACCESS_COPY))
        except OSError:
            return None  # its worker lives, or the file cannot be read just now
        finally:
            os.close(file)

    @property
    def was_drained(self) -> bool:
        """
        Whether the worker had handed everything on: its end is no crash.
        """
        return bool(self._recorder.header.drained)

    @property
    def was_idle(self) -> bool:
        return not any(map(_is_in_hand, self._recorder.slots))

    def in_flight(self) -> Iterator[InFlightAttempt]:
        """
        Yield the attempts whose end the server may not know.
        """
        if self.was_drained:
            return
        since = self._clock() - RELEASED_FOR_S
        for number, slot in enumerate(self._recorder.slots):
            try:
                if slot.was_held(since):
                    yield _attempt(slot)
            except ValueError:
                # Not ours to guess: it is left to its heartbeat timeout.
                logger.exception("recorder.unreadable: slot %s", number)


def _remove_empty(path: Path, file: int) -> None:
    """
    Remove the recorder of a worker that died before it had made it, and not what a
    new worker has put in its place.
    """
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file), path.stat()):
            remove(path)


def recorder_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{RECORDER_SUFFIX}"))


def remove(path: Path) -> None:
    path.with_suffix(STACK_SUFFIX).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def read_header(path: Path) -> Header | None:
    """
    Read the header of the recorder at *path*; None when its worker has not
    made it yet.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return Header.from_buffer_copy(os.read(file, sizeof(Header)))
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def read_store_trouble(path: Path) -> StoreTrouble | None:
    """
    Read what a live worker waits for at the store, if anything.
    """
    header = read_header(path)
    if header is None or not header.waits_bytes:
        return None
    if time.monotonic() - header.ticked_at > FRESH_TICK_S:
        return None
    text = header.waits_for[: header.waits_bytes].decode(errors="replace")
    return StoreTrouble(text, header.waits_since)


def count_in_flight(path: Path) -> int:
    return len(_read_live(path, _is_in_hand, _is_in_hand))


def attempts_in_flight(path: Path) -> list[InFlightAttempt]:
    return _read_live(path, _is_in_hand, _attempt)


def recent_names(path: Path) -> list[Names]:
    """
    Read whose attempts a live worker works on, or has until just now.
    """
    since = time.monotonic() - RECENT_S
    return _read_live(path, lambda slot: slot.was_held(since), Slot.names)


def leaked_calls(path: Path) -> list[LeakedCall]:
    header = read_header(path)
    if header is None or not header.leaked:
        return []
    return _read_live(path, lambda slot: slot.leaked > 0, _leaked_call)


def _read_live(
    path: Path, wanted: Callable[[Slot], bool], read: Callable[[Slot], T]
) -> list[T]:
    found = []
    with (
        suppress(OSError, ValueError),  # its worker has not made it yet, or it is gone
        path.open("rb") as file,
    ):
        body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        for slot in filter(wanted, Recorder.from_buffer(body).slots):
            with suppress(ValueError):  # its worker is just writing another one there
                found.append(read(slot))
    return found


def _is_in_hand(slot: Slot) -> bool:
    return bool(slot.state == IN_HAND)


def _attempt(slot: Slot) -> InFlightAttempt:
    token, mission, task, route, attempt = slot.names()
    return InFlightAttempt(
        b64decode(token), mission, task, route, attempt, slot.checkpoint()
    )


def _leaked_call(slot: Slot) -> LeakedCall:
    _, mission, task, route, attempt = slot.names()
    return LeakedCall(mission, task, route, attempt, slot.leaked)
