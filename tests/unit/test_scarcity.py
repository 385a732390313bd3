"""
A fleet on a machine that gives it too little: no room for a process, a worker that
never gets going, recorders that nobody can read.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.fleet import monitor, orphans, parent, restart_intensity
from outlast.fleet.deaths import DeathReports
from outlast.fleet.exits import Exit
from outlast.fleet.fleet_state import EXIT_CANNOT_START
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.fork_server_client import SpawnError
from outlast.fleet.monitor import ProcessMonitor
from outlast.fleet.orphans import watch_orphans
from outlast.fleet.parent import Fleet
from outlast.fleet.parent_heartbeats import ParentHeartbeats
from outlast.fleet.process_kinds import ProcessKind, ProcessState, recorder_path
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_layout import Slot, slot_at
from outlast.fleet.recorder_reader import CrashedRecorder, recorder_files, remove
from outlast.fleet.watchdog import KillDecision, KillReason, Watchdog
from outlast.settings import Settings

BOUND_S = 10.0


class Crowded:
    """
    A nursery on a machine without room; *heard* is called at each try.
    """

    def __init__(self, heard: Any = lambda tries: None) -> None:
        self.tries = 0
        self._heard = heard

    async def spawn(self, kind: ProcessKind) -> Any:
        self.tries += 1
        self._heard(self.tries)
        raise SpawnError("Resource temporarily unavailable")

    def close(self) -> None: ...


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """
    A fleet that connects to nothing and pauses for moments.
    """
    monkeypatch.setattr(restart_intensity, "RESPAWN_BACKOFF_S", 0.001)
    monkeypatch.setattr(parent, "RESPAWN_FAILED_PAUSE_S", 0.001)
    return Fleet(Settings(home=tmp_path), lambda _: None)


def crowd(fleet: Fleet, nursery: Crowded) -> None:
    fleet._spawners = dict.fromkeys(ProcessKind, nursery)  # type: ignore[arg-type]


async def test_no_room_for_a_process_is_tried_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However often, while others of the fleet work.
    """
    many = 2 * restart_intensity.MAX_RESTARTS
    fleet.slots = fleet.slots[:2]
    fleet.slots[1].state = ProcessState.POLLING
    fleet.state.announced = True  # it has been whole

    async def works_on(child: ProcessSlot) -> None:
        await child.draining.wait()

    keep = fleet._run_slot
    monkeypatch.setattr(
        fleet,
        "_run_slot",
        lambda child: works_on(child) if child.polling else keep(child),
    )
    nursery = Crowded(lambda tries: fleet.stop() if tries == many else None)
    crowd(fleet, nursery)
    async with asyncio.timeout(BOUND_S):
        assert await fleet.run() == 0
    assert nursery.tries == many


async def test_no_room_for_anything_is_given_up(fleet: Fleet) -> None:
    """
    Where nobody works, with the code that escalates, and at once.
    """
    nursery = Crowded()
    crowd(fleet, nursery)
    async with asyncio.timeout(BOUND_S):
        assert await fleet.run() == EXIT_CANNOT_START


class Killed:
    """
    A worker's life that can be ended.
    """

    pid = os.getpid()

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def kill(self) -> None:
        self.over.set()


class Convicting(Watchdog):
    """
    Finds the same reason to kill at every look.
    """

    found = KillDecision(KillReason.IDLE, "silent, whatever its memory is")

    def kill_reason(self, *_: Any) -> KillDecision:
        return self.found


@pytest.mark.parametrize(
    ("reason", "bites", "killed"),
    [
        (KillReason.IDLE, True, True),
        (KillReason.IDLE, False, False),
        (KillReason.MEMORY, False, True),
    ],
)
async def test_memory_over_the_cap_is_never_forgiven(
    reason: KillReason,
    bites: bool,
    killed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    By the reason, whatever its sentence speaks of; the silent are let alone where the
    watchdog is off.
    """
    monkeypatch.setattr(monitor, "WATCHDOG_CHECK_S", 0.01)
    path = recorder_path(tmp_path, os.getpid())
    path.parent.mkdir()
    kept = FlightRecorder(path)
    kept.tick()
    life, judging = Killed(), Convicting()
    judging.found = KillDecision(reason, judging.found.sentence)
    child = ProcessSlot(ProcessKind.AGENTS, process=life, watchdog=judging)  # type: ignore[arg-type]
    beats = ParentHeartbeats(DEFAULT_TIMING, Slow().client)  # type: ignore[arg-type]
    looking = asyncio.ensure_future(
        ProcessMonitor([child], tmp_path, kill_unresponsive=bites).check(beats)
    )
    if killed:
        await asyncio.wait_for(life.over.wait(), BOUND_S)
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(life.over.wait(), 0.1)
    looking.cancel()
    assert (child.killed_for is not None) is killed


async def test_a_worker_that_never_gives_a_sign_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It has hung before it had a recorder: nothing else would ever notice.
    """
    monkeypatch.setattr(monitor, "WATCHDOG_CHECK_S", 0.01)
    life = Killed()
    child = ProcessSlot(ProcessKind.AGENTS, process=life)  # type: ignore[arg-type]
    beats = ParentHeartbeats(DEFAULT_TIMING, Slow().client)  # type: ignore[arg-type]
    looking = asyncio.ensure_future(
        ProcessMonitor([child], tmp_path, kill_unresponsive=True).check(beats)
    )
    child.spawned_at = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(life.over.wait(), 0.1)
    child.spawned_at -= monitor.FIRST_TICK_LIMIT_S
    child.has_ticked = True  # as one that has lived, and whose recorder is gone
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(life.over.wait(), 0.1)
    child.has_ticked = False
    await asyncio.wait_for(life.over.wait(), BOUND_S)
    looking.cancel()
    assert child.killed_for is not None


async def test_a_worker_that_dies_later_is_adopted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When a parent looks first, a worker of one that is lost may still live; one that
    died before it had made its recorder has left an empty file. Its own are not for
    adoption.
    """
    monkeypatch.setattr(orphans, "ORPHAN_CHECK_S", 0.01)
    living, ours = (
        FlightRecorder(tmp_path / "1.rec"),
        FlightRecorder(tmp_path / "3.rec"),
    )
    ours.close_after_fork()  # dead, and about to be settled by its parent
    (tmp_path / "2.rec").touch()
    found: list[Path] = []

    async def adopt() -> None:
        async for lost in watch_orphans(tmp_path, {ours.path}):
            found.extend(lost)
            return

    adopting = asyncio.ensure_future(adopt())
    async with asyncio.timeout(BOUND_S):
        while (tmp_path / "2.rec").exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0)
    assert found == []
    living.close_after_fork()  # as the kernel does at its death
    await asyncio.wait_for(adopting, BOUND_S)
    assert found == [living.path]


async def test_what_another_parent_settles_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It does so between two looks; only what lies there at both is adopted.
    """
    looks = 0

    def look(folder: Path) -> list[Path]:
        nonlocal looks
        found = recorder_files(folder)
        looks += bool(found)
        return found

    monkeypatch.setattr(orphans, "ORPHAN_CHECK_S", 0.01)
    monkeypatch.setattr(orphans, "recorder_files", look)
    adopting = asyncio.ensure_future(anext(watch_orphans(tmp_path, set())))
    await asyncio.sleep(0)  # the first look, at nothing
    dead = FlightRecorder(tmp_path / "1.rec")
    dead.close_after_fork()
    assert await asyncio.wait_for(adopting, BOUND_S) == {dead.path: False}
    assert looks == 2


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ({"head": b"\0"}, ["b"]),
        ({"head": b"5", "head_bytes": 1}, ["b"]),
        ({"valid_half": 9}, ["a", "b"]),
    ],
    ids=["no head", "no names", "no half"],
)
def test_one_unreadable_attempt_hides_no_other(
    lost: dict[str, Any],
    left: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    A disk may lose a sector; what is beside it is reported.
    """
    recorder = FlightRecorder(tmp_path / "1.rec")
    hands = [recorder.start(b"token", "m", task, "worker", 1) for task in ("a", "b")]
    for hand in hands:
        hand.save(Checkpoint(seq=3).model_dump_json().encode())
    first: Any = hands[0]
    Slot.put(recorder.map, slot_at(first.number), **lost)
    recorder.close_after_fork()

    wreck = CrashedRecorder.open(tmp_path / "1.rec")
    assert wreck is not None
    assert sorted(each.task for each in wreck.in_flight()) == left
    assert ("recorder.unreadable" in caplog.text) is (left == ["b"])


class Slow:
    """
    A reporter that takes its time to free missions; tells what it did.
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.may_free = asyncio.Event()

    async def client(self) -> None: ...

    async def reset_sticky_queues(self) -> None:
        self.did.append("free")
        await self.may_free.wait()

    async def report_all(self, recorder: Path, pid: int, ended: Exit) -> None:
        assert pid == 1
        self.did.append(f"settle {recorder.name}: {ended.cause}")
        remove(recorder)


async def test_a_lost_fleet_is_taken_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its missions are freed before its attempts are reported, which would wait for a
    dead process else; and however long that takes, nobody begins it again.
    """
    monkeypatch.setattr(orphans, "ORPHAN_CHECK_S", 0.001)
    slow = Slow()
    deaths = DeathReports(tmp_path, slow)  # type: ignore[arg-type]
    dead = FlightRecorder(tmp_path / "run" / "1.rec")
    dead.close_after_fork()
    adopting = asyncio.ensure_future(deaths.report_lost_fleets())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(adopting), 0.1)
    assert slow.did == ["free"]
    slow.may_free.set()
    async with asyncio.timeout(BOUND_S):
        while dead.path.exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0)
    adopting.cancel()
    assert slow.did == ["free", "settle 1.rec: its fleet was lost"]
