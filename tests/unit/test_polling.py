"""
In which order a process leaves its queues, and which it takes for busy.
"""

import asyncio
from pathlib import Path

import pytest

from outlast.contracts.ids import lease_queue, quarantine_queue, task_queue
from outlast.fleet import polling, recorder_reader
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.messages import Message, StateChanged
from outlast.fleet.polling import busy_queues, poll_until_stopped, shut_down_in_order
from outlast.fleet.process_kinds import ProcessState
from outlast.fleet.workers import WorkerSet

LONG_S = 60.0  # nobody waits for it
BOUND_S = 10.0
MOMENT_S = 0.1


class Reader:
    """
    Reads a queue until it is told not to.
    """

    def __init__(self, queue: str, left: list[str]) -> None:
        self.task_queue = queue
        self._left = left

    async def shutdown(self) -> None:
        self._left.append(self.task_queue)


@pytest.fixture
def left() -> list[str]:
    """
    The queues that have been left, in order.
    """
    return []


@pytest.fixture
def readers(left: list[str]) -> list[Reader]:
    return [Reader(queue, left) for queue in ("idle", "busy", "quiet", "full")]


async def test_what_is_handed_on_goes_first(
    readers: list[Reader], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A queue that has nothing in hand is left after all those that have.
    """
    monkeypatch.setattr(polling, "IDLE_QUEUES_DELAY_S", LONG_S)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shut_down_in_order(readers, {"busy", "full"}), MOMENT_S)
    assert left == ["busy", "full"]

    left.clear()
    monkeypatch.setattr(polling, "IDLE_QUEUES_DELAY_S", 0.0)
    await shut_down_in_order(readers, {"busy", "full"})
    assert left == ["busy", "full", "idle", "quiet"]


async def test_where_nothing_is_in_hand_nobody_waits(
    readers: list[Reader], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A fleet without work ends at once.
    """
    monkeypatch.setattr(polling, "IDLE_QUEUES_DELAY_S", LONG_S)
    await asyncio.wait_for(shut_down_in_order(readers, set()), BOUND_S)

    assert left == ["idle", "busy", "quiet", "full"]


def test_a_role_is_busy_if_any_process_beside_has_it_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With all its queues, so that its workers leave together; and it no longer is when
    what they had has returned.
    """
    ours, theirs = (FlightRecorder(tmp_path / f"{pid}.rec") for pid in (1, 2))
    hand = ours.start(b"token", "m", "t", "writer", 1)
    theirs.start(b"token", "m", "u", "reviewer", 1)

    named = (task_queue, lease_queue, quarantine_queue)
    both = {name(role) for role in ("writer", "reviewer") for name in named}
    assert busy_queues(tmp_path) == both
    hand.finish()  # and whoever looks a moment later leaves with the others
    assert busy_queues(tmp_path) == both
    monkeypatch.setattr(recorder_reader, "RECENT_S", 0.0)
    assert busy_queues(tmp_path) == {name("reviewer") for name in named}


def test_what_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    """
    A recorder that was just created, or removed since, keeps no one from leaving.
    """
    (tmp_path / "1.rec").touch()
    (tmp_path / "2.rec").write_bytes(b"short")

    assert busy_queues(tmp_path) == set()
    assert busy_queues(tmp_path / "none") == set()


class Signs:
    """
    A parent that keeps the signs that it is given.
    """

    def __init__(self) -> None:
        self.given: list[Message] = []

    def send(self, message: Message) -> None:
        self.given.append(message)


async def test_a_worker_has_drained_though_its_lines_cannot_be_written(
    tmp_path: Path,
) -> None:
    """
    A store that is away keeps the lines of what was handed on open: that is no
    failure of the process, and takes no longer than its drain may.
    """
    stop, parent = asyncio.Event(), Signs()
    stop.set()
    unwritten = asyncio.get_running_loop().create_future()
    hosting = WorkerSet([], closing={unwritten})
    async with asyncio.timeout(BOUND_S):
        await poll_until_stopped(hosting, parent, stop, MOMENT_S, tmp_path)  # type: ignore[arg-type]
    assert parent.given == [StateChanged(state=ProcessState.POLLING)]
