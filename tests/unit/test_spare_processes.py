"""
Spares: what waits to become a worker, in a test that speaks for its processes.
"""

import asyncio
import socket

import pytest

from outlast.contracts.errors import BadInputError
from outlast.fleet import spawn, worker_process
from outlast.fleet.messages import (
    Exiting,
    Importing,
    Message,
    StartWorker,
    Warm,
    decode,
    encode,
)
from outlast.fleet.process_kinds import ExitReason, ProcessKind
from outlast.fleet.spawn import SpareProcesses
from outlast.fleet.worker_process import WorkerProcess


class Process:
    """
    A process that stands by: it says what the test has it say.
    """

    def __init__(self, life: WorkerProcess, theirs: socket.socket) -> None:
        self.life = life
        self._theirs = theirs

    def say(self, message: Message) -> None:
        self._theirs.sendall(encode(message))

    def hear(self) -> Message:
        self._theirs.settimeout(5)
        return decode(self._theirs.recv(4096))

    def die(self, code: int) -> None:
        self._theirs.close()
        self.life.death.set_result(code)


class Nursery:
    """
    Starts such processes, and remembers them.
    """

    def __init__(self) -> None:
        self.started: asyncio.Queue[Process] = asyncio.Queue()
        self.count = 0

    async def start(self) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        self.count += 1
        death = asyncio.get_running_loop().create_future()
        life = WorkerProcess(0, reader, writer, death)
        life.kill = lambda: None  # type: ignore[method-assign]
        self.started.put_nowait(Process(life, theirs))
        return life


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Nursery:
    monkeypatch.setattr(spawn, "NEXT_SPARE_S", 0.0)
    return Nursery()


async def begun(
    made: SpareProcesses, nursery: Nursery
) -> tuple[WorkerProcess, Process]:
    """
    Take the first worker; returns it and the spare that is made after it.
    """
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    (await nursery.started.get()).say(Warm())
    life = await taking
    return life, await nursery.started.get()


async def test_the_next_is_ready_before_it_is_needed(nursery: Nursery) -> None:
    """
    It has imported everything and is told which kind to be: nothing else is waited for.
    """
    made = SpareProcesses(nursery.start)
    _, spare = await begun(made, nursery)
    spare.say(Importing(module="mine.py"))
    spare.say(Warm())
    await asyncio.sleep(0)

    life = await made.take(ProcessKind.QUARANTINE)

    assert life is spare.life
    assert spare.hear() == StartWorker(kind=ProcessKind.QUARANTINE)
    made.close()


async def test_one_that_is_being_made_is_waited_for(nursery: Nursery) -> None:
    """
    It is ahead of one that would be started now.
    """
    made = SpareProcesses(nursery.start)
    _, spare = await begun(made, nursery)
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    await asyncio.sleep(0.01)
    assert not taking.done()
    assert nursery.count == 2
    spare.say(Warm())
    assert await taking is spare.life
    made.close()


async def test_workers_born_at_once_have_one_spare_made(nursery: Nursery) -> None:
    """
    The next one for all of them: any other would be forgotten, and never used.
    """
    made = SpareProcesses(nursery.start)
    taking = [asyncio.ensure_future(made.take(ProcessKind.AGENTS)) for _ in range(5)]
    for _ in taking:
        (await nursery.started.get()).say(Warm())
    await asyncio.gather(*taking)
    await nursery.started.get()
    await asyncio.sleep(0.01)
    assert nursery.count == len(taking) + 1
    made.close()


async def test_one_that_died_while_it_waited_is_not_taken(nursery: Nursery) -> None:
    """
    Nothing was asked of it: another one is started.
    """
    made = SpareProcesses(nursery.start)
    _, spare = await begun(made, nursery)
    spare.say(Warm())
    await asyncio.sleep(0.01)
    spare.die(-9)
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    other = await nursery.started.get()
    other.say(Warm())
    assert await taking is other.life
    made.close()


@pytest.mark.parametrize(
    ("last", "code", "told"),
    [
        (
            Exiting(reason=ExitReason.BAD_INPUT, why="agents in 'x' cannot load"),
            None,
            "agents in 'x' cannot load",
        ),
        (Importing(module="x.py"), 0, "'x.py' cannot load: importing them exits with"),
    ],
)
async def test_a_module_that_cannot_be_used_is_told(
    nursery: Nursery, last: Message, code: int | None, told: str
) -> None:
    """
    By its own words, or by what was imported when it exited.
    """
    made = SpareProcesses(nursery.start)
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    process = await nursery.started.get()
    process.say(last)
    if code is not None:
        process.die(code)
    with pytest.raises(BadInputError, match=told):
        await taking


async def test_one_that_is_killed_has_died_young(nursery: Nursery) -> None:
    """
    The machine may have wanted its memory: its death is counted, as of a worker before
    its first poll.
    """
    made = SpareProcesses(nursery.start)
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    process = await nursery.started.get()
    process.say(Importing(module="x.py"))
    process.die(-9)
    assert await (await taking).death == -9
    made.close()


async def test_an_import_that_never_ends_is_told(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With the module that holds it.
    """
    monkeypatch.setattr(worker_process, "WARM_LIMIT_S", 0.05)
    made = SpareProcesses(nursery.start)
    taking = asyncio.ensure_future(made.take(ProcessKind.AGENTS))
    process = await nursery.started.get()
    process.say(Importing(module="x.py"))
    with pytest.raises(BadInputError, match=r"'x.py' cannot load: the import has not"):
        await taking
