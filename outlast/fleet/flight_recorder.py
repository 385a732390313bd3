"""
The flight recorder: what a worker has in hand, in a file that survives its SIGKILL.

The file is mapped into memory, so a write is a copy and the kernel keeps it whatever
happens to the process. A checkpoint is written to the half of its slot that is not
valid, then the slot's counter is moved on: a death in the middle leaves the earlier
one. The worker holds an exclusive lock on the file, which the kernel drops at death;
only who gets the lock may settle what lies in it.

An attempt that is over while its code still runs has leaked: its slot keeps its names
until that code ends, so that people see who it is and the parent recycles the process.
"""

import fcntl
import json
import mmap
import os
import struct
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from outlast.contracts.errors import UnavailableError
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.execution.in_flight import NULL_REGISTRY, InFlightSlot
from outlast.store.calls import StoreTrouble
from outlast.store.private import open_private, require_own_folder

SLOTS = 128
SLOT_HEAD_BYTES = (
    4096  # the task token and the ids, each as long as the server takes it
)
HALF_BYTES = CHECKPOINT_BYTES + 512
RECORDER_HEADER_BYTES = 512

FREE, IN_HAND, RETURNED = 0, 1, 2

# A process killed between the function's return and the server's answer would leave
# an attempt to its heartbeat timeout: what has returned stays reportable this long.
RELEASED_FOR_S = 15.0

# header: tick in monotonic seconds, drained, calls that have leaked, about to send a
# SIGKILL to itself
HEADER = struct.Struct("<d?H?")
DRAINED_AT, LEAKED_AT, OWN_KILL_AT = 8, 9, 11
# what the worker waits for at the store: since when, in seconds since 1970, and the
# length of the words that follow; here, since no disk is too full for it
STORE_TROUBLE = struct.Struct("<dH")
TROUBLE_AT, WORDS_AT = 16, 32
# slot: state, which half is valid, returned at, length of head, calls that have leaked;
# then length and checksum of each half; then the head and the halves themselves
SLOT = struct.Struct("<BBdIH")
SIZES = struct.Struct("<II")
VALID_AT, RETURNED_AT, SLOT_LEAKED_AT = 1, 2, 14
SIZES_AT = SLOT.size
HEAD_AT = SIZES_AT + 2 * SIZES.size
HALVES_AT = HEAD_AT + SLOT_HEAD_BYTES
SLOT_BYTES = HALVES_AT + 2 * HALF_BYTES
RECORDER_BYTES = RECORDER_HEADER_BYTES + SLOTS * SLOT_BYTES


class FlightRecorder:
    """
    The worker's side: one slot for each attempt.

    :param clock: monotonic seconds of this host, the same for all its processes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._file = _preallocate(path)
        self._map = mmap.mmap(self._file, RECORDER_BYTES)
        self._free = list(range(SLOTS))
        self._released: list[tuple[float, RecorderSlot]] = []
        self._leaked = 0
        self._trouble: StoreTrouble | None = None
        self.tick()

    def tick(self) -> None:
        """
        Say that the event loop turns.
        """
        struct.pack_into("<d", self._map, 0, self._clock())

    def note_store_trouble(self, trouble: StoreTrouble | None) -> None:
        """
        Say what we wait for at the store, or that we do not wait any more.
        """
        if trouble == self._trouble:
            return
        self._trouble = trouble
        since, words = 0.0, b""
        if trouble is not None:
            since, words = trouble.since, trouble.text.encode()
        words = words[: RECORDER_HEADER_BYTES - WORDS_AT]
        self._map[WORDS_AT : WORDS_AT + len(words)] = words
        STORE_TROUBLE.pack_into(self._map, TROUBLE_AT, since, len(words))

    def close_after_fork(self) -> None:
        """
        Give up file and lock. For what an agent has forked, which would hold the lock
        of a dead worker.
        """
        self._map.close()
        os.close(self._file)

    def note_drained(self) -> None:
        """
        Say that nothing is left in hand: from here on a death is no crash.
        """
        struct.pack_into("<?", self._map, DRAINED_AT, True)

    def note_self_kill(self) -> None:
        """
        Say that this process is about to send a SIGKILL to itself.
        """
        struct.pack_into("<?", self._map, OWN_KILL_AT, True)

    def start(
        self, token: bytes, mission: str, task: str, route: str, attempt: int
    ) -> InFlightSlot:
        """
        Record that an attempt is in hand.

        Past the last slot, or with names too long to record, it is left to its
        heartbeat timeout: the recorder must never be why an attempt cannot run.
        """
        head = json.dumps(
            [b64encode(token).decode(), mission, task, route, attempt]
        ).encode()
        number = self._claim() if len(head) <= SLOT_HEAD_BYTES else None
        if number is None:
            return NULL_REGISTRY
        at = RECORDER_HEADER_BYTES + number * SLOT_BYTES
        # The state is taken away first and given last: what can be read is complete.
        SLOT.pack_into(self._map, at, FREE, 0, 0.0, len(head), 0)
        self._map[at + SIZES_AT : at + HEAD_AT] = bytes(2 * SIZES.size)
        self._map[at + HEAD_AT : at + HEAD_AT + len(head)] = head
        struct.pack_into("<B", self._map, at, IN_HAND)
        return RecorderSlot(self._map, at, number, self)

    def release(self, slot: "RecorderSlot") -> None:
        """
        Remember that the slot may be used again once nobody needs it.
        """
        self._released.append((self._clock(), slot))

    def keep_released(self, slot: "RecorderSlot") -> bool:
        """
        Keep what was given back; False when another attempt has it by now.
        """
        kept = [each for each in self._released if each[1] is not slot]
        found = len(kept) < len(self._released)
        self._released = kept
        return found

    def leak(self, change: int) -> None:
        """
        Count the calls that still run in this process though their attempts are over.
        """
        self._leaked += change
        struct.pack_into("<H", self._map, LEAKED_AT, self._leaked)

    def _claim(self) -> int | None:
        while self._released and self._is_expired(self._released[0][0]):
            self._free.append(self._released.pop(0)[1].number)
        if not self._free and self._released:
            self._free.append(self._released.pop(0)[1].number)
        return self._free.pop() if self._free else None

    def _is_expired(self, returned_at: float) -> bool:
        return self._clock() - returned_at > RELEASED_FOR_S

    def now(self) -> float:
        """
        Read the clock.
        """
        return self._clock()


def _preallocate(path: Path) -> int:
    """
    Open and lock the file at *path*, and have the disk's word for every page: a store
    to one that it has no room for would be a SIGBUS.

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


class RecorderSlot:
    """
    One attempt's place in the recorder. For its event loop only.
    """

    def __init__(
        self, mapped: mmap.mmap, at: int, number: int, recorder: FlightRecorder
    ) -> None:
        self._map = mapped
        self._at = at
        self.number = number
        self._recorder = recorder
        self._valid_half = 0
        self._released = False
        self._has_leaked = 0

    def save(self, encoded: bytes) -> None:
        """
        Record a checkpoint, as JSON of at most HALF_BYTES.
        """
        if self._released or len(encoded) > HALF_BYTES:
            return  # the slot may be another's by now; or: the earlier one stands
        half = 1 - self._valid_half
        start = self._at + HALVES_AT + half * HALF_BYTES
        self._map[start : start + len(encoded)] = encoded
        sizes = self._at + SIZES_AT + half * SIZES.size
        SIZES.pack_into(self._map, sizes, len(encoded), zlib.crc32(encoded))
        struct.pack_into("<B", self._map, self._at + VALID_AT, half)
        self._valid_half = half

    def finish(self) -> None:
        """
        Say that the attempt is over; the server may not know it yet.
        """
        if self._released:
            return
        self._released = True
        struct.pack_into("<d", self._map, self._at + RETURNED_AT, self._recorder.now())
        struct.pack_into("<B", self._map, self._at, RETURNED)
        if not self._has_leaked:
            self._recorder.release(self)

    def leak(self) -> None:
        """
        Count a call of the attempt that runs on after it; a lease may have several.
        """
        first_late = self._released and not self._has_leaked
        if first_late and not self._recorder.keep_released(self):
            return  # the slot is another's by now
        self._leak(1)

    def leak_ended(self) -> None:
        """
        Count out a call that has ended after all.
        """
        if not self._has_leaked:
            return
        self._leak(-1)
        if self._released and not self._has_leaked:
            self._recorder.release(self)

    def _leak(self, change: int) -> None:
        self._has_leaked += change
        struct.pack_into("<H", self._map, self._at + SLOT_LEAKED_AT, self._has_leaked)
        self._recorder.leak(change)
