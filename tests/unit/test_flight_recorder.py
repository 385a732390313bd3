"""
The flight recorder: what a dead worker had in hand is what its parent reads, wherever
in the writing it died.
"""

import errno
import fcntl
import itertools
import json
import mmap
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import Clock

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import UnavailableError
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.execution.in_flight import NULL_SLOT, InFlightSlot
from outlast.fleet import flight_recorder, recorder_layout
from outlast.fleet.flight_recorder import RELEASED_FOR_S, FlightRecorder
from outlast.fleet.recorder_layout import HALF_BYTES, HEAD_BYTES, SLOTS
from outlast.fleet.recorder_reader import (
    CrashedRecorder,
    InFlightAttempt,
    LeakedCall,
    count_in_flight,
    leaked_calls,
    read_header,
    recorder_files,
    remove,
)

WRITERS = (flight_recorder.__file__, recorder_layout.__file__)

SAVES = 2_000
SAVE_BOUND_S = 100e-6  # the goal is 20 microseconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "7.rec"


def saved(seq: int, value: Any = None) -> Checkpoint:
    return Checkpoint(seq=seq, route="worker", value=value)


def encoded(checkpoint: Checkpoint) -> bytes:
    return checkpoint.model_dump_json().encode()


def take(recorder: FlightRecorder, number: int = 1) -> InFlightSlot:
    """
    Take the attempt that is told apart by *number*.
    """
    return recorder.start(b"token %d" % number, "mission", f"t{number}", "worker", 1)


def left(
    path: Path, clock: Callable[[], float] = time.monotonic
) -> list[InFlightAttempt]:
    """
    Read what lies in the recorder as if its worker had died now.
    """
    with path.open("rb") as file:
        body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return list(CrashedRecorder(body, clock).in_flight())


def last_tick(path: Path) -> float | None:
    header = read_header(path)
    return float(header.ticked_at) if header else None


def count_leaked(path: Path) -> int:
    header = read_header(path)
    assert header is not None
    return int(header.leaked)


def checkpoints(path: Path, clock: Callable[[], float] = time.monotonic) -> list[Any]:
    return [each.checkpoint for each in left(path, clock)]


class DeathError(Exception):
    """
    A SIGKILL between two lines.
    """


@contextmanager
def dying_at(line: int) -> Iterator[None]:
    """
    Die before the *line*-th line that the recorder's modules execute from here on.
    """
    count = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in WRITERS:
            return None
        if event == "line" and next(count) == line:
            raise DeathError
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def deaths(act: Callable[[int], None]) -> int:
    """
    Die at each line of *act* in turn, which is told the line; returns how many it has.
    """
    for line in itertools.count():
        try:
            act(line)
        except DeathError:
            continue
        return line
    raise AssertionError


def spoil(path: Path, body: bytes) -> None:
    """
    Tear *body* where it lies in the file, as a write that was cut short does.
    """
    found = path.read_bytes().index(body)
    with path.open("r+b") as file:
        file.seek(found + len(body) // 2)
        file.write(b"\0" * (len(body) - len(body) // 2))


def test_what_was_taken_and_saved_is_read(path: Path) -> None:
    """
    The parent reads token, names, attempt and last checkpoint of each attempt.
    """
    recorder = FlightRecorder(path)
    recorder.start(b"\0\xff token", "m", "t", "writer", 3).save(encoded(saved(4, [1])))
    recorder.start(b"other", "m", "fresh", "writer", 1)

    found = {each.task: each for each in left(path)}

    assert found == {
        "t": InFlightAttempt(b"\0\xff token", "m", "t", "writer", 3, saved(4, [1])),
        "fresh": InFlightAttempt(b"other", "m", "fresh", "writer", 1, None),
    }


def test_the_last_save_is_the_one_that_is_read(path: Path) -> None:
    """
    However often an attempt saves, its last checkpoint stands.
    """
    hand = take(FlightRecorder(path))
    for seq in range(1, 8):
        hand.save(encoded(saved(seq)))
        assert checkpoints(path) == [saved(seq)]


def test_a_checkpoint_of_the_largest_size_fits(path: Path) -> None:
    """
    What may travel in a heartbeat may lie in the recorder.
    """
    large = saved(2, "x" * (CHECKPOINT_BYTES - 100))
    assert HALF_BYTES >= len(encoded(large)) > CHECKPOINT_BYTES - 100
    hand = take(FlightRecorder(path))
    hand.save(encoded(saved(1)))
    hand.save(encoded(large))
    assert checkpoints(path) == [large]


@pytest.mark.parametrize("over", [1, 3 * HALF_BYTES])
def test_a_checkpoint_too_large_keeps_the_earlier(path: Path, over: int) -> None:
    """
    What does not fit into its half is not written at all, to no one's half.
    """
    recorder = FlightRecorder(path)
    hands = [take(recorder, number) for number in range(3)]
    for hand in hands:
        hand.save(encoded(saved(1)))
    hands[1].save(b"9" * (HALF_BYTES + over))
    assert checkpoints(path) == [saved(1)] * 3


def test_a_torn_newer_half_leaves_the_earlier(path: Path) -> None:
    """
    A death in the middle of a save, however it left the half, costs that save only.
    """
    hand = take(FlightRecorder(path))
    hand.save(encoded(saved(1, "earlier")))
    hand.save(encoded(saved(2, "newer")))
    spoil(path, encoded(saved(2, "newer")))
    assert checkpoints(path) == [saved(1, "earlier")]


def test_a_torn_first_half_is_no_checkpoint(path: Path) -> None:
    """
    With nothing earlier to go back to, the attempt is read without a checkpoint.
    """
    hand = take(FlightRecorder(path))
    hand.save(encoded(saved(1, "only")))
    spoil(path, encoded(saved(1, "only")))
    assert checkpoints(path) == [None]


def test_a_death_at_any_line_of_a_save_leaves_one_of_both(path: Path) -> None:
    """
    Between any two lines of a save either the earlier or the newer checkpoint stands.
    """
    hand = take(FlightRecorder(path))
    hand.save(encoded(saved(1)))
    seen = []

    def die(line: int) -> None:
        before = checkpoints(path)[0].seq
        body = encoded(saved(before + 1))
        try:
            with dying_at(line):
                hand.save(body)
        finally:
            seen.append(checkpoints(path)[0].seq - before)

    assert deaths(die) >= 5
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}


def test_a_death_at_any_line_of_a_take_leaves_the_others(tmp_path: Path) -> None:
    """
    Between any two lines of taking a fresh slot, the new attempt is whole or absent.
    """
    seen = []

    def die(line: int) -> None:
        path = tmp_path / f"{line}.rec"
        recorder = FlightRecorder(path)
        take(recorder, 1).save(encoded(saved(5)))
        try:
            with dying_at(line):
                take(recorder, 2)
        finally:
            seen.append(sorted((each.task, each.checkpoint) for each in left(path)))

    assert deaths(die) >= 5
    absent, whole = [("t1", saved(5))], [("t1", saved(5)), ("t2", None)]
    assert [absent, whole] == [each for each, _ in itertools.groupby(seen)]


@pytest.mark.parametrize("later_s", [0.0, RELEASED_FOR_S + 1], ids=["full", "old"])
def test_a_death_at_any_line_of_a_reuse_mixes_no_attempts(
    tmp_path: Path, later_s: float
) -> None:
    """
    A slot that is used again never shows one attempt's token with another one's
    checkpoint, nor keeps the rest from being read.
    """

    def die(line: int) -> None:
        clock, path = Clock(), tmp_path / f"{line}.rec"
        recorder = FlightRecorder(path, clock)
        for number in range(SLOTS):
            hand = take(recorder, number)
            hand.save(encoded(saved(number + 1)))
            hand.finish()
        clock.turn(later_s)
        try:
            with dying_at(line):
                recorder.start(b"a token of another length", "m", "new", "worker", 1)
        finally:
            found = {each.task: each.checkpoint for each in left(path, clock)}
            assert found.pop("new", None) is None
            assert found == {name: saved(int(name[1:]) + 1) for name in found}
            assert len(found) >= (SLOTS - 1 if not later_s else 0)

    assert deaths(die) >= 5


def test_an_attempt_that_is_over_writes_into_no_other(path: Path) -> None:
    """
    A plain agent's thread that outlives its attempt does not save into the slot's
    next attempt.
    """
    recorder = FlightRecorder(path)
    over = take(recorder, 0)
    over.finish()
    for number in range(1, SLOTS + 1):
        take(recorder, number)
    over.save(encoded(saved(99)))
    assert checkpoints(path) == [None] * SLOTS


def test_what_has_returned_stays_reportable_for_a_while(path: Path) -> None:
    """
    A death between return and the server's answer is reported; much later it is none.
    """
    clock = Clock()
    hand = take(FlightRecorder(path, clock))
    hand.save(encoded(saved(1)))
    hand.finish()
    assert checkpoints(path, clock) == [saved(1)]
    clock.turn(RELEASED_FOR_S)
    assert checkpoints(path, clock) == [saved(1)]
    clock.turn(0.001)
    assert left(path, clock) == []


def test_what_has_returned_is_kept_longer_than_a_heartbeat_timeout() -> None:
    """
    Long enough that nobody waits for a timeout, not so long that a death reports
    minutes of work that was answered long ago.
    """
    assert DEFAULT_TIMING.heartbeat_timeout_s < RELEASED_FOR_S <= 30.0


def test_what_is_in_hand_stays_reportable_for_ever(path: Path) -> None:
    """
    Only what has returned grows old.
    """
    clock = Clock()
    take(FlightRecorder(path, clock))
    clock.turn(100 * RELEASED_FOR_S)
    assert len(left(path, clock)) == 1


def test_a_drained_worker_has_nothing_in_hand(path: Path) -> None:
    """
    Once all is handed on, a death is no crash.
    """
    recorder = FlightRecorder(path)
    take(recorder)
    recorder.note_drained()
    assert left(path) == []


def test_attempts_past_the_last_slot_run_unrecorded(path: Path) -> None:
    """
    One more than there are slots is left to its heartbeat timeout, and harms nobody.
    """
    recorder = FlightRecorder(path)
    hands = [take(recorder, number) for number in range(SLOTS)]
    assert NULL_SLOT not in hands
    extra = take(recorder, SLOTS)
    assert extra is NULL_SLOT
    extra.save(encoded(saved(1)))
    extra.finish()
    assert len(left(path)) == count_in_flight(path) == SLOTS
    hands[3].finish()
    assert take(recorder, SLOTS) is not NULL_SLOT


def test_a_full_recorder_gives_up_the_longest_returned(path: Path) -> None:
    """
    A slot is given back early only when there is no other, the oldest first.
    """
    clock = Clock()
    recorder = FlightRecorder(path, clock)
    for number in range(SLOTS):
        clock.turn(0.01)
        take(recorder, number).finish()
    take(recorder, SLOTS)
    assert {each.task for each in left(path, clock)} == {
        f"t{number}" for number in range(1, SLOTS + 1)
    }


@pytest.mark.parametrize("which", ["token", "mission", "task", "route"])
def test_names_too_long_run_unrecorded(path: Path, which: str) -> None:
    """
    What does not fit into the head is left to its heartbeat timeout, and harms nobody.
    """
    recorder = FlightRecorder(path)
    given: dict[str, Any] = {"token": b"t", "mission": "m", "task": "t", "route": "r"}
    given[which] *= HEAD_BYTES
    assert recorder.start(**given, attempt=1) is NULL_SLOT
    assert left(path) == []


def test_names_too_long_use_up_no_slot(path: Path) -> None:
    """
    However many cannot be recorded, those that can still are.
    """
    recorder = FlightRecorder(path)
    for _ in range(2 * SLOTS):
        assert recorder.start(b"t", "m" * HEAD_BYTES, "t", "r", 1) is NULL_SLOT
    assert take(recorder) is not NULL_SLOT
    assert len(left(path)) == 1


def test_the_recorder_is_its_owners_alone(path: Path) -> None:
    """
    Checkpoints are nobody else's to read, whatever the umask.
    """
    before = os.umask(0)
    try:
        FlightRecorder(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_recorder_over_an_earlier_one_keeps_nothing_of_it(path: Path) -> None:
    """
    A worker that was given a dead one's pid, as containers do, neither has its
    attempts in hand nor is drained because that one was.
    """
    earlier = FlightRecorder(path)
    take(earlier, 1)
    earlier.note_drained()
    fcntl.flock(earlier._file, fcntl.LOCK_UN)  # as its death does

    later = FlightRecorder(path)
    take(later, 2)

    assert [each.task for each in left(path)] == ["t2"]


LIVING = """
import sys
from pathlib import Path
from outlast.fleet.flight_recorder import FlightRecorder
recorder = FlightRecorder(Path(sys.argv[1]))
recorder.start(b"token", "m", "t", "r", 1).save(b'{"seq": 3}')
print("taken", flush=True)
sys.stdin.read()
"""


def test_a_live_workers_recorder_is_not_read(path: Path) -> None:
    """
    Only the lock's next holder may settle: None while the worker lives, all once it
    was killed.
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", LIVING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == b"taken\n"
        assert CrashedRecorder.open(path) is None
        assert count_in_flight(path) == 1
    finally:
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()

    wreck = CrashedRecorder.open(path)
    assert wreck is not None
    assert list(wreck.in_flight()) == [
        InFlightAttempt(b"token", "m", "t", "r", 1, saved_as(3))
    ]


def saved_as(seq: int) -> Checkpoint:
    return Checkpoint(seq=seq)


def test_two_parents_do_not_read_the_same_wreck(path: Path) -> None:
    """
    While one holds what it is about to report, the other gets nothing.
    """
    recorder = FlightRecorder(path)
    take(recorder)
    fcntl.flock(recorder._file, fcntl.LOCK_UN)  # as its death does
    first = CrashedRecorder.open(path)
    assert first is not None
    assert CrashedRecorder.open(path) is None
    del first
    assert CrashedRecorder.open(path) is not None


@pytest.mark.parametrize("body", [None, b"", b"\0" * 10, b"\0" * 5000])
def test_a_recorder_that_was_never_made_holds_nothing(
    path: Path, body: bytes | None
) -> None:
    """
    A worker that died before its file was whole had nothing in hand; nothing raises.
    """
    path.parent.mkdir()
    if body is not None:
        path.write_bytes(body)
    wreck = CrashedRecorder.open(path)
    assert wreck is None or list(wreck.in_flight()) == []
    assert last_tick(path) in (None, 0.0)


@pytest.mark.parametrize("body", [None, b""])
def test_a_worker_without_a_recorder_has_nothing_in_hand(
    path: Path, body: bytes | None
) -> None:
    """
    Health may ask before the worker has made its file.
    """
    path.parent.mkdir()
    if body is not None:
        path.write_bytes(body)
    assert count_in_flight(path) == 0
    assert last_tick(path) is None


def test_the_tick_is_seen_from_outside(path: Path) -> None:
    """
    The parent reads when the event loop turned last, by the worker's clock.
    """
    clock = Clock(100.0)
    recorder = FlightRecorder(path, clock)
    assert last_tick(path) == 100.0
    clock.turn(2.5)
    recorder.tick()
    assert last_tick(path) == 102.5


def test_what_is_returned_is_no_longer_counted_in_hand(path: Path) -> None:
    """
    Health counts attempts at work, not those that are only still reportable.
    """
    recorder = FlightRecorder(path)
    hands = [take(recorder, number) for number in range(3)]
    assert count_in_flight(path) == 3
    hands[0].finish()
    assert count_in_flight(path) == 2
    assert len(left(path)) == 3


def test_what_leaks_is_over_and_still_named(path: Path) -> None:
    """
    A leaked attempt is not in hand and grows old like any that returned, but its names
    are read until its code ends, however many attempts come after it.
    """
    clock = Clock()
    recorder = FlightRecorder(path, clock)
    gone = recorder.start(b"token", "m", "t", "worker", 2)
    gone.leak()
    gone.finish()
    clock.turn(RELEASED_FOR_S + 1)
    for number in range(3 * SLOTS):
        take(recorder, number).finish()
    assert count_in_flight(path) == 0
    assert "t" not in {each.task for each in left(path, clock)}
    assert leaked_calls(path) == [LeakedCall("m", "t", "worker", 2, calls=1)]
    gone.leak_ended()
    assert leaked_calls(path) == []
    assert count_leaked(path) == 0
    for number in range(SLOTS):
        assert take(recorder, number) is not NULL_SLOT


def test_a_lease_leaks_several_calls(path: Path) -> None:
    """
    Items share the slot of their lease, which is kept until the last of them ends.
    """
    recorder = FlightRecorder(path)
    lease, other = take(recorder, 1), take(recorder, 2)
    for hand in (lease, lease, other):
        hand.leak()
    lease.finish()
    assert count_leaked(path) == 3
    lease.leak_ended()
    assert {each.task: each.calls for each in leaked_calls(path)} == {"t1": 1, "t2": 1}
    lease.leak_ended()
    lease.leak_ended()  # once too often
    assert {each.task: each.calls for each in leaked_calls(path)} == {"t2": 1}


def test_what_is_found_to_leak_late_takes_no_other_attempts_slot(path: Path) -> None:
    """
    Code that turns out to run on after its attempt has returned keeps the slot, unless
    another attempt has it by then.
    """
    recorder = FlightRecorder(path)
    hands = [take(recorder, number) for number in range(SLOTS)]
    hands[0].finish()
    hands[0].leak()
    assert [each.task for each in leaked_calls(path)] == ["t0"]
    assert take(recorder, SLOTS) is NULL_SLOT
    hands[1].finish()
    assert take(recorder, SLOTS) is not NULL_SLOT
    hands[1].leak()
    assert [each.task for each in leaked_calls(path)] == ["t0"]


def test_settled_recorders_are_gone(path: Path) -> None:
    """
    What was settled is listed no more, and removing it twice is no error.
    """
    FlightRecorder(path)
    (path.parent / "other").write_text("no recorder")
    assert recorder_files(path.parent) == [path]
    remove(path)
    remove(path)
    assert recorder_files(path.parent) == []


@dataclass
class Model:
    """
    What a recorder must remember: attempts in order of their return.
    """

    now: float = 1_000.0
    in_hand: dict[int, int | None] = field(default_factory=dict)
    returned: dict[int, tuple[float, int | None]] = field(default_factory=dict)

    def take(self, number: int) -> bool:
        self.returned = dict(self._young())
        if len(self.in_hand) + len(self.returned) == SLOTS:
            if not self.returned:
                return False
            del self.returned[next(iter(self.returned))]
        self.in_hand[number] = None
        return True

    def give_back(self, number: int) -> None:
        self.returned[number] = (self.now, self.in_hand.pop(number))

    def reportable(self) -> dict[int, int | None]:
        young = {number: seq for number, (_, seq) in self._young()}
        return {**self.in_hand, **young}

    def _young(self) -> list[tuple[int, tuple[float, int | None]]]:
        return [
            (number, (at, seq))
            for number, (at, seq) in self.returned.items()
            if self.now - at <= RELEASED_FOR_S
        ]


moves = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 50)),
    st.tuples(st.just("save"), st.integers(0, 10_000)),
    st.tuples(st.just("return"), st.integers(0, 10_000)),
    st.tuples(st.just("return all"), st.just(0)),
    st.tuples(st.just("turn"), st.sampled_from([1, 7, 14, 16])),
)
names = itertools.count()


@given(st.lists(moves, max_size=40))
def test_any_course_of_work_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, course: list[tuple[str, int]]
) -> None:
    """
    Over any takes, saves, returns and waits, the wreck tells exactly what is in hand
    or returned of late, each with its last checkpoint.
    """
    path = tmp_path_factory.getbasetemp() / f"course-{next(names)}.rec"
    clock, model, hands = Clock(), Model(), dict[int, InFlightSlot]()
    recorder = FlightRecorder(path, clock)
    number = 0
    try:
        for move, amount in course:
            held = sorted(model.in_hand)
            if move == "take":
                for _ in range(amount):
                    number += 1
                    hands[number] = take(recorder, number)
                    assert (hands[number] is not NULL_SLOT) == model.take(number)
            elif move == "turn":
                clock.turn(amount)
                model.now = clock.now
            elif move == "save" and held:
                chosen = held[amount % len(held)]
                hands[chosen].save(encoded(saved(amount)))
                model.in_hand[chosen] = amount
            elif move.startswith("return") and held:
                every = held if move == "return all" else [held[amount % len(held)]]
                for each in every:
                    hands[each].finish()
                    model.give_back(each)
        found = {
            int(each.task[1:]): each.checkpoint and each.checkpoint.seq
            for each in left(path, clock)
        }
        assert found == model.reportable()
        assert count_in_flight(path) == len(model.in_hand)
    finally:
        path.unlink()


def test_a_save_costs_next_to_nothing(path: Path) -> None:
    """
    The recorder is no reason to save less often: the median of 2,000 saves.
    """
    hand = take(FlightRecorder(path))
    body = json.dumps({"seq": 1, "value": "x" * 500}).encode()
    took = []
    for _ in range(SAVES):
        began = time.perf_counter()
        hand.save(body)
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < SAVE_BOUND_S


def test_a_recorder_outlives_the_removal_of_its_predecessor(path: Path) -> None:
    """
    A worker with a dead one's pid, whose recorder is still being settled, waits for
    that and then has one of its own, which its parent finds.
    """
    earlier = FlightRecorder(path)
    take(earlier, 1)
    fcntl.flock(earlier._file, fcntl.LOCK_UN)  # as its death does
    wreck = CrashedRecorder.open(path)
    assert wreck is not None
    later = subprocess.Popen(
        [sys.executable, "-c", LIVING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert later.stdin is not None
    assert later.stdout is not None
    try:
        await_lock(later.pid)
        remove(path)
        del wreck
        assert later.stdout.readline() == b"taken\n"
        assert count_in_flight(path) == 1
        assert CrashedRecorder.open(path) is None
    finally:
        later.kill()
        later.wait()
        later.stdin.close()
        later.stdout.close()


def await_lock(pid: int) -> None:
    """
    Wait until the process stands before a lock, as the kernel lists it.
    """
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        waiting = Path("/proc/locks").read_text().splitlines()
        if any("->" in line and f" {pid} " in line for line in waiting):
            return
    raise AssertionError("it does not wait for the lock")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no word of the disk")
def test_a_full_disk_is_said_before_anything_is_recorded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a file with holes the first store to a page would be a SIGBUS.
    """

    def full(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnavailableError, match="No space left"):
        FlightRecorder(path)


def test_what_an_agent_has_forked_holds_no_lock(tmp_path: Path) -> None:
    """
    The worker dies, its fork lives on: what the worker had in hand can be settled.
    """
    recorder = FlightRecorder(tmp_path / "1.rec")
    heard, said = os.pipe()
    fork = os.fork()
    if fork == 0:
        recorder.close_after_fork()  # as the worker's hook does after every fork
        os.write(said, b"!")
        signal.pause()
    os.read(heard, 1)
    recorder.close_after_fork()  # as the kernel does at the worker's death
    try:
        assert CrashedRecorder.open(tmp_path / "1.rec") is not None
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


def test_a_fork_in_the_middle_of_a_write_gives_the_lock_up(tmp_path: Path) -> None:
    """
    A plain agent forks in its thread while the event loop is at any line of a save:
    its process must be able to close the map, or it would hold a dead worker's lock.
    """

    def die(line: int) -> None:
        recorder = FlightRecorder(tmp_path / f"{line}.rec")
        hand = take(recorder)
        try:
            with dying_at(line):
                hand.save(encoded(saved(1)))
                hand.finish()
        finally:  # the frames of the save still live in what has forked
            recorder.close_after_fork()

    assert deaths(die) >= 5
