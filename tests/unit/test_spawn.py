"""
The nursery's side of a zygote, with a zygote that the test speaks for.
"""

import asyncio
import signal
import socket

import pytest

from outlast.fleet.fork_server_client import ForkServerClient, SpawnError
from outlast.fleet.messages import Died, Forked, ForkFailed, Message, encode
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks
from outlast.fleet.worker_process import WorkerProcess

PID = 4711


class Told:
    """
    A zygote's end of the channel: it says what it is told to.
    """

    def __init__(self) -> None:
        self.theirs, self.ours = socket.socketpair()
        self.pid = 0

    def say(self, message: Message) -> None:
        self.theirs.sendall(encode(message))

    async def heard_by(self) -> ForkServerClient:
        reader, writer = await asyncio.open_connection(sock=self.ours)
        death = asyncio.get_running_loop().create_future()
        death.set_result(0)
        server = WorkerProcess(self.pid, reader, writer, death)
        return ForkServerClient(server, WorkerMarks())


async def test_a_number_given_again_is_another_process() -> None:
    """
    The kernel gives a dead worker's number to a later one, which lives.
    """
    told = Told()
    zygote = await told.heard_by()
    told.say(Forked(pid=PID, mark=1))
    first = (await zygote.fork(ProcessKind.AGENTS)).death
    told.say(Died(pid=PID, code=-signal.SIGKILL))
    told.say(Forked(pid=PID, mark=1))
    second = (await zygote.fork(ProcessKind.AGENTS)).death
    assert await first == -signal.SIGKILL
    assert not second.done()
    told.say(Died(pid=PID, code=0))
    assert await second == 0
    told.theirs.close()


async def test_a_death_told_in_one_breath_with_the_birth_is_heard() -> None:
    """
    A worker that dies before anybody looks is dead, not forgotten.
    """
    told = Told()
    zygote = await told.heard_by()
    told.say(Forked(pid=PID, mark=1))
    told.say(Died(pid=PID, code=3))
    told.say(Died(pid=PID + 1, code=0))  # of which nobody here knows
    worker = await zygote.fork(ProcessKind.AGENTS)
    assert await worker.death == 3
    told.theirs.close()


async def test_no_room_for_a_fork_is_not_an_unsafe_zygote() -> None:
    """
    The next birth asks it again, where an unsafe one is left for good.
    """
    told = Told()
    zygote = await told.heard_by()
    told.say(ForkFailed(why="Resource temporarily unavailable"))
    with pytest.raises(SpawnError):
        await zygote.fork(ProcessKind.AGENTS)
    told.say(Forked(pid=PID, mark=1))
    worker = await zygote.fork(ProcessKind.AGENTS)
    assert worker.pid == PID
    told.theirs.close()
