"""
The flight recorder: a worker's in-flight attempts, in a file that survives its SIGKILL.

The file is mapped into memory, so a write is a copy and the kernel keeps it whatever
happens to the process. The worker holds an exclusive lock on the file, which the kernel
drops at death; only the process that gets the lock may settle what lies in it.

An attempt that is over while its code still runs has leaked: its slot keeps its names
until that code ends, so that people see whose it is and the parent recycles the
process.
"""

import fcntl
import json
import mmap
import os
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from outlast.contracts.errors import UnavailableError
from outlast.execution.in_flight import NULL_SLOT, InFlightRegistry, InFlightSlot
from outlast.fleet.recorder_layout import (
    FREE,
    HALF_BYTES,
    HEAD_BYTES,
    HEADER_AT,
    IN_HAND,
    RECORDER_BYTES,
    RETURNED,
    SLOTS,
    TROUBLE_BYTES,
    Header,
    Slot,
    slot_at,
)
from outlast.store.calls import StoreTrouble
from outlast.store.private import open_private, require_own_folder

# A process killed between the function's return and the server's answer would leave
# an attempt to its heartbeat timeout: what has returned stays reportable this long.
RELEASED_FOR_S = 15.0


class FlightRecorder(InFlightRegistry):
    """
    The worker's side: one slot for each attempt.

    :param clock: monotonic seconds of this host, the same for all its processes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock
        self._file = _preallocate(path)
        self.map = mmap.mmap(self._file, RECORDER_BYTES)
        self._free = list(range(SLOTS))
        self._released: list[RecorderSlot] = []  # the longest returned first
        self._leaked = 0
        self._trouble: StoreTrouble | None = None
        self.tick()

    def tick(self) -> None:
        Header.put(self.map, HEADER_AT, ticked_at=self.clock())

    def note_store_trouble(self, trouble: StoreTrouble | None) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        text = trouble.text.encode()[:TROUBLE_BYTES] if trouble else b""
        since = trouble.since if trouble else 0.0
        told = {"waits_for": text, "waits_since": since, "waits_bytes": len(text)}
        Header.put(self.map, HEADER_AT, **told)

    def note_drained(self) -> None:
        """
        Record that nothing is in flight any more: from here on a death is no crash.
        """
        Header.put(self.map, HEADER_AT, drained=True)

    def note_self_kill(self) -> None:
        Header.put(self.map, HEADER_AT, kills_itself=True)

    def close_after_fork(self) -> None:
        """
        Give up file and lock, in a process that an agent has forked: it would hold the
        lock of a dead worker.
        """
        self.map.close()
        os.close(self._file)

    def start(
        self, token: bytes, mission: str, task: str, route: str, attempt: int
    ) -> InFlightSlot:
        """
        Record that an attempt is in flight.

        Without a free slot, or with names too long to record, it is left to its
        heartbeat timeout: the recorder must never be why an attempt cannot run.
        """
        names = [b64encode(token).decode(), mission, task, route, attempt]
        head = json.dumps(names).encode()
        number = self._claim() if len(head) <= HEAD_BYTES else None
        if number is None:
            return NULL_SLOT
        at = slot_at(number)
        # The state is taken away first and given last: what can be read is complete.
        Slot.put(self.map, at, state=FREE)
        self.map[at : at + Slot.head.offset] = bytes(Slot.head.offset)
        Slot.put(self.map, at, head=head, head_bytes=len(head), state=IN_HAND)
        return RecorderSlot(number, self)

    def release(self, slot: "RecorderSlot") -> None:
        slot.released_at = self.clock()
        self._released.append(slot)

    def take_back(self, slot: "RecorderSlot") -> bool:
        """
        Undo `release`; False when another attempt has the slot by now.
        """
        with suppress(ValueError):
            self._released.remove(slot)
            return True
        return False

    def count_leaked(self, change: int) -> None:
        self._leaked += change
        Header.put(self.map, HEADER_AT, leaked=self._leaked)

    def _claim(self) -> int | None:
        now = self.clock()
        while self._released and (
            not self._free or now - self._released[0].released_at > RELEASED_FOR_S
        ):
            self._free.append(self._released.pop(0).number)
        return self._free.pop() if self._free else None


class RecorderSlot(InFlightSlot):
    """
    One attempt's place in the recorder. For its event loop only.
    """

    def __init__(self, number: int, recorder: FlightRecorder) -> None:
        self._recorder = recorder
        self._at = slot_at(number)
        self._valid_half = 0
        self._finished = False
        self._leaked = 0
        self.number = number
        self.released_at = 0.0

    def save(self, encoded: bytes) -> None:
        """
        Record a checkpoint, as JSON of at most HALF_BYTES.
        """
        if self._finished or len(encoded) > HALF_BYTES:
            return  # the slot may be another's by now; or: the earlier one stays
        half = 1 - self._valid_half
        Slot.put_half(self._recorder.map, self._at, half, encoded)
        Slot.put(self._recorder.map, self._at, valid_half=half)
        self._valid_half = half

    def finish(self) -> None:
        """
        Record that the attempt is over; the server may not know it yet.
        """
        if self._finished:
            return
        self._finished = True
        now = self._recorder.clock()
        Slot.put(self._recorder.map, self._at, returned_at=now, state=RETURNED)
        if not self._leaked:
            self._recorder.release(self)

    def leak(self) -> None:
        """
        Count a call that runs on after its attempt; a lease may have several.
        """
        released = self._finished and not self._leaked
        if released and not self._recorder.take_back(self):
            return  # the slot is another's by now
        self._count_leaked(1)

    def leak_ended(self) -> None:
        if not self._leaked:
            return
        self._count_leaked(-1)
        if self._finished and not self._leaked:
            self._recorder.release(self)

    def _count_leaked(self, change: int) -> None:
        self._leaked += change
        Slot.put(self._recorder.map, self._at, leaked=self._leaked)
        self._recorder.count_leaked(change)


def _preallocate(path: Path) -> int:
    """
    Open and lock the file at *path*, and have the disk give room for every page: a
    write to one that it has no room for would be a SIGBUS.

    :raises UnavailableError: when there is no room now.
    """
    file: int | None = None
    try:
        require_own_folder(path.parent)
        file = _open_locked(path)
        os.ftruncate(file, 0)  # nothing of an earlier process with our pid
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, RECORDER_BYTES)
        else:
            os.ftruncate(file, RECORDER_BYTES)
    except PermissionError:
        raise  # waiting does not change whose it is
    except OSError as error:
        if file is not None:
            path.unlink(missing_ok=True)
            os.close(file)  # and its lock, which the next try would wait for
        raise UnavailableError(
            f"no room for a recorder in {path.parent}: {error}"
        ) from None
    return file


def _open_locked(path: Path) -> int:
    """
    Open and lock the file at *path*; not one that was removed while we waited because
    its earlier owner, a dead process with our pid, had just been settled.
    """
    while True:
        file = open_private(path, os.O_RDWR)
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
        os.close(file)
