"""
The nursery's side of a zygote, with a zygote that the test speaks for.
"""

import asyncio
import json
import signal
import socket
from typing import Any

import pytest

from outlast.fleet.fork_server_client import ForkServerClient, SpawnError
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks

PID = 4711


class Told:
    """
    A zygote's end of the channel: it says what it is told to.
    """

    def __init__(self) -> None:
        self.theirs, self.ours = socket.socketpair()
        self.pid = 0

    def say(self, **message: Any) -> None:
        self.theirs.sendall(json.dumps(message).encode() + b"\n")

    async def heard_by(self) -> ForkServerClient:
        sending = self.ours.dup()
        reader, writer = await asyncio.open_connection(sock=self.ours)
        return ForkServerClient(_Process(), sending, reader, writer, WorkerMarks())  # type: ignore[arg-type]


class _Process:
    async def wait(self) -> int:
        return 0


async def test_a_number_given_again_is_another_process() -> None:
    """
    The kernel gives a dead worker's number to a later one, which lives.
    """
    told = Told()
    zygote = await told.heard_by()
    channel = told.theirs.dup()
    told.say(forked=PID, mark=1)
    _, first = await zygote.fork(ProcessKind.AGENTS, channel)
    told.say(died=PID, code=-signal.SIGKILL)
    told.say(forked=PID, mark=1)
    _, second = await zygote.fork(ProcessKind.AGENTS, channel)
    assert await first == -signal.SIGKILL
    assert not second.done()
    told.say(died=PID, code=0)
    assert await second == 0
    told.theirs.close()


async def test_a_death_told_in_one_breath_with_the_birth_is_heard() -> None:
    """
    A worker that dies before anybody looks is dead, not forgotten.
    """
    told = Told()
    zygote = await told.heard_by()
    told.say(forked=PID, mark=1)
    told.say(died=PID, code=3)
    told.say(died=PID + 1, code=0)  # of which nobody here knows
    _, death = await zygote.fork(ProcessKind.AGENTS, told.theirs.dup())
    assert await death == 3
    told.theirs.close()


async def test_no_room_for_a_fork_is_not_an_unsafe_zygote() -> None:
    """
    The next birth asks it again, where an unsafe one is left for good.
    """
    told = Told()
    zygote = await told.heard_by()
    channel = told.theirs.dup()
    told.say(unborn="Resource temporarily unavailable")
    with pytest.raises(SpawnError):
        await zygote.fork(ProcessKind.AGENTS, channel)
    told.say(forked=PID, mark=1)
    pid, _ = await zygote.fork(ProcessKind.AGENTS, channel)
    assert pid == PID
    told.theirs.close()
