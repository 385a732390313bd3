"""
What a fleet says of its store: in the recorder, in health, in the log, and at the end.
"""

import asyncio
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from unit_fakes import mission, task

from outlast.contracts.errors import StoreLostError
from outlast.fleet.file_watch import WatchedFile
from outlast.fleet.fleet_state import EXIT_STORE_LOST
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.messages import Exiting, StoreGone
from outlast.fleet.parent import Fleet
from outlast.fleet.process_kinds import ExitReason, ProcessKind, recorder_path
from outlast.fleet.store_watch import (
    StoreTroubleWatch,
    open_patiently,
    store_trouble,
    store_trouble_text,
    watch,
)
from outlast.ledger.missions import MissionRecords
from outlast.process.opening import open_store
from outlast.settings import Settings
from outlast.store.calls import StoreTrouble
from outlast.store.database import Store

BOUND_S = 10.0
FULL = StoreTrouble("the store at here: full \u00e9", 1_000.0)


@pytest.fixture
def recorder(tmp_path: Path) -> FlightRecorder:
    return FlightRecorder(recorder_path(tmp_path, 7))


def test_what_is_waited_for_is_read_from_the_recorder(
    recorder: FlightRecorder, tmp_path: Path
) -> None:
    """
    By whoever looks, whatever disk is full.
    """
    assert store_trouble(tmp_path) is None
    recorder.note_store_trouble(FULL)
    assert store_trouble(tmp_path) == FULL
    assert "full" in store_trouble_text(tmp_path)
    recorder.note_store_trouble(None)
    assert store_trouble(tmp_path) is None


def test_long_words_do_not_reach_into_the_slots(
    recorder: FlightRecorder, tmp_path: Path
) -> None:
    """
    They are cut.
    """
    recorder.note_store_trouble(StoreTrouble("\u00e9" * 5_000, 1.0))
    found = store_trouble(tmp_path)
    assert found is not None
    assert 100 < len(found.text) < 512
    recorder.start(b"token", "m", "t", "r", 1).finish()


def test_a_dead_process_waits_for_nothing(tmp_path: Path) -> None:
    """
    Its recorder may lie there for long.
    """
    now = [0.0]
    recorder = FlightRecorder(recorder_path(tmp_path, 7), lambda: now[0])
    recorder.note_store_trouble(FULL)
    assert store_trouble(tmp_path) is None


def test_no_room_for_a_recorder_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And the first try does not hold the lock for which the second waits.
    """

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.posix_fallocate", no_room, raising=False)
        with pytest.raises(Exception, match="no room"):
            FlightRecorder(recorder_path(tmp_path, 7))
    FlightRecorder(recorder_path(tmp_path, 7)).note_store_trouble(None)


def test_a_fleet_says_once_what_it_waits_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    When it begins, and when it is over.
    """
    caplog.set_level(logging.INFO)
    found: list[StoreTrouble | None] = [None, FULL, FULL, None, None]
    waiting = StoreTroubleWatch(tmp_path, lambda _: found.pop(0))
    shown = []
    while found:
        waiting.check()
        shown.append(len(waiting.describe()))
    assert shown == [0, 1, 1, 0, 0]
    assert [each.getMessage().split()[0] for each in caplog.records] == [
        "store.unavailable:",
        "store.available",
    ]


async def test_a_fleet_whose_store_is_lost_stops_with_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    However many of its workers say so.
    """
    fleet = Fleet(Settings(home=tmp_path), lambda _: None)
    assert fleet.snapshot()["waits_for"] == []
    for child in fleet.slots[:2]:
        fleet.state.on_message(child, StoreGone(why="it is gone"))
    assert fleet.drain.has_started
    assert fleet.state.exit_code == EXIT_STORE_LOST
    assert [each.getMessage() for each in caplog.records] == ["store.lost: it is gone"]


def overwritten(path: Path) -> None:
    other = path.with_name("other.db")
    Store(other).close()
    with path.open("r+b") as file:  # the same file, as `cp` writes it
        file.truncate(0)
        file.write(other.read_bytes())


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def replaced(path: Path) -> None:
    body = path.read_bytes()
    path.unlink()
    path.with_name("another").touch()  # that inodes are not given out again
    path.write_bytes(body)


@pytest.mark.parametrize("change", [overwritten, emptied, replaced, Path.unlink])
def test_the_parent_sees_a_file_that_is_another_one_now(
    tmp_path: Path, change: Any
) -> None:
    """
    Also while all of the store's pages are in its log, where SQLite does not look at
    the file itself.
    """
    path = tmp_path / "store.db"
    store, eye = Store(path), WatchedFile(path)
    assert eye.missing() is None
    MissionRecords(store).open(mission(task("a")))
    store._database.shrink()  # a checkpoint changes nothing that the eye looks at
    assert eye.missing() is None
    change(path)
    told = eye.missing()
    assert told is not None
    assert str(path) in told
    with suppress(StoreLostError):
        store.close()


def test_a_store_elsewhere_has_no_file_to_look_at() -> None:
    """
    Its workers look at it themselves.
    """
    assert WatchedFile(None).missing() is None


async def test_a_worker_that_can_never_open_its_store_stops_the_fleet(
    tmp_path: Path,
) -> None:
    """
    No other one could.
    """
    fleet = Fleet(Settings(home=tmp_path), lambda _: None)
    child = next(each for each in fleet.slots if each.kind is ProcessKind.WORKFLOWS)
    told = Exiting(reason=ExitReason.STORE, why="it is corrupt")
    fleet.state.on_message(child, told)
    assert fleet.state.failure() == {"failed": "it is corrupt"}


async def test_a_worker_notices_that_its_store_is_gone(
    recorder: FlightRecorder, tmp_path: Path, built_file: Path
) -> None:
    """
    Within seconds, though nobody uses it.
    """
    path = shutil.copy(built_file, tmp_path / "store.db")
    store, heard = Store(path), asyncio.Event()
    store.on_lost(lambda _: heard.set())
    watching = asyncio.ensure_future(watch(store, recorder))
    await asyncio.sleep(0)
    path.unlink()
    async with asyncio.timeout(BOUND_S):
        await heard.wait()
    watching.cancel()
    store.close()


async def test_a_store_is_opened_as_soon_as_it_can_be(
    recorder: FlightRecorder, tmp_path: Path
) -> None:
    """
    Meanwhile people see what is in the way.
    """
    chosen = Settings(home=tmp_path)
    open_store(chosen).close()
    path = tmp_path / "store.db"
    body = path.read_bytes()
    log = tmp_path / "store.db-wal"
    log.unlink(missing_ok=True)
    log.mkdir()  # nothing can be opened there
    opening = asyncio.ensure_future(open_patiently(asyncio.Event(), chosen, recorder))
    async with asyncio.timeout(BOUND_S):
        while True:
            if store_trouble(tmp_path) is not None:
                break
            await asyncio.sleep(0.01)
        log.rmdir()
        path.write_bytes(body)
        store = await opening
    assert store is not None
    assert store_trouble(tmp_path) is None
    store.close()


def test_a_home_remembers_its_store(tmp_path: Path) -> None:
    """
    A lost one does not come back empty, but by an operator's word.
    """
    chosen = Settings(home=tmp_path)
    first = open_store(chosen)
    first.close()
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    with pytest.raises(StoreLostError):
        open_store(chosen)
    assert not (tmp_path / "store.db").exists()
    second = open_store(chosen, upgrade=True)
    assert second.id != first.id
    second.close()
    open_store(chosen).close()
