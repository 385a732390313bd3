"""
Heartbeats that the parent sends for a silent worker: which, when and how often.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.timing import DEFAULT_TIMING, SEVERAL_HOSTS, Timing
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.parent_heartbeats import ParentHeartbeats


@dataclass
class Server:
    """
    Keeps the heartbeats that it was sent, as a client and as a handle.
    """

    beats: list[tuple[bytes, Any]] = field(default_factory=list)
    token: bytes = b""

    async def client(self) -> "Server":
        return self

    def get_async_activity_handle(self, task_token: bytes) -> "Server":
        handle = Server(self.beats)
        handle.token = task_token
        return handle

    async def heartbeat(self, details: Any) -> None:
        self.beats.append((self.token, details["checkpoint"]["seq"]))


@pytest.fixture
def recorder(tmp_path: Path) -> FlightRecorder:
    made = FlightRecorder(tmp_path / "1.rec")
    hand = made.start(b"works", "m", "a", "role", 1)
    hand.save(Checkpoint(seq=7).model_dump_json().encode())
    made.start(b"new", "m", "b", "role", 1)
    made.start(b"returned", "m", "c", "role", 1).finish()
    return made


async def beaten(
    timing: Timing, recorder: FlightRecorder, *looks: tuple[float, float]
) -> Any:
    """
    Look at (now, silence) after another; returns what the server was sent.
    """
    server = Server()
    beats = ParentHeartbeats(timing, server.client)  # type: ignore[arg-type]
    for now, silent_s in looks:
        beats.check(now, silent_s, recorder.path)
        await asyncio.gather(*beats._sending)
    return server.beats


async def test_a_silent_workers_attempts_keep_their_checkpoints(
    recorder: FlightRecorder,
) -> None:
    """
    Of all that it works on, with what it has saved: the server's copy is older.
    """
    sent = await beaten(SEVERAL_HOSTS, recorder, (100.0, 0.6))
    assert sorted(sent) == [(b"new", 0), (b"works", 7)]


async def test_heartbeats_come_as_often_as_the_workers_own(
    recorder: FlightRecorder,
) -> None:
    """
    However often the parent looks; and none for a worker that is well.
    """
    looks = [(100.0 + step / 10, step / 10) for step in range(21)]
    sent = await beaten(SEVERAL_HOSTS, recorder, *looks)
    assert sent.count((b"works", 7)) == 4
    assert await beaten(SEVERAL_HOSTS, recorder, (100.0, 0.4)) == []


async def test_where_the_timeout_is_longer_nothing_is_sent(
    recorder: FlightRecorder,
) -> None:
    """
    With the store in a file no worker is silent for as long as that.
    """
    assert await beaten(DEFAULT_TIMING, recorder, (100.0, 4.0)) == []
