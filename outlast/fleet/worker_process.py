"""
One process as the parent that has started it knows it: what it says, and that it is
surely dead.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from outlast.contracts.errors import BadInputError
from outlast.fleet.messages import (
    DRAIN_REQUEST,
    Exiting,
    ForkUnsafe,
    Importing,
    Message,
    Warm,
    decode,
)
from outlast.fleet.subprocesses import WorkerMarks
from outlast.process.programs import child_environment

logger = logging.getLogger("outlast.fleet")

# After its channel has closed, a process is gone or about to be.
CHANNEL_END_LIMIT_S = 1.0
# What one that has exited by itself has said is in the channel already; something that
# it forked may hold the channel open.
LAST_MESSAGES_S = 0.1
# An import is interrupted after 60 s; one within a library's own code may not be.
WARM_LIMIT_S = 70.0

Death = asyncio.Future[int | None]


@dataclass
class WorkerProcess:
    """
    A worker, or what makes one: the fork server, a spare.

    :param death: resolved with its exit code when it is dead, as is all that it had
        started; with None where the code is not known.
    """

    pid: int
    states: asyncio.StreamReader
    channel: asyncio.StreamWriter
    death: Death

    async def read(self) -> Message | None:
        """
        Read its next message; None when its channel has closed.
        """
        with contextlib.suppress(OSError):  # reset: it is dead
            if line := await self.states.readline():
                return decode(line)
        return None

    async def wait(self, on_message: Callable[[Message], None]) -> int | None:
        """
        Read what it says until the process is surely dead; returns its exit code where
        that is known.
        """
        reading = asyncio.ensure_future(self._read_messages(on_message))
        either: list[asyncio.Future[Any]] = [reading, self.death]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.death.done():
            # Its channel closed. Kill before anything is reported of it.
            await self._end()
        elif (self.death.result() or 0) >= 0:
            await asyncio.wait([reading], timeout=LAST_MESSAGES_S)
        reading.cancel()
        self.channel.close()
        return self.death.result() if self.death.done() else None

    async def wait_until_warm(self) -> Warm | ForkUnsafe | None:
        """
        Wait until it has imported everything; None when it was killed meanwhile, or
        hung before it came to the agents.

        :raises BadInputError: when a module of agents cannot be used, ends the process
            or keeps it.
        """
        module = None
        try:
            while message := await asyncio.wait_for(self.read(), WARM_LIMIT_S):
                match message:
                    case Warm() | ForkUnsafe():
                        return message
                    case Exiting():
                        raise BadInputError(message.why)
                    case Importing():
                        module = message.module
        except TimeoutError:
            self.kill()
            if module is not None:
                raise BadInputError(_stuck(module)) from None
        except BaseException:
            self.kill()
            raise
        code = await self._end()
        if module is not None and code is not None and code >= 0:
            raise BadInputError(_exited(module, code))
        logger.warning("worker.died_importing %s: exit code %s", module, code)
        return None

    def drain(self, by_signal: bool) -> None:
        """
        Ask it to drain.

        :param by_signal: too, as long as no agent can have taken SIGTERM for itself:
            one that still imports its agents does not listen.
        """
        with contextlib.suppress(OSError):
            self.channel.write(DRAIN_REQUEST)
        if by_signal:
            self.terminate()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """
        End it now, frozen or not.
        """
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.death.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _end(self) -> int | None:
        self.kill()
        await asyncio.wait([self.death], timeout=CHANNEL_END_LIMIT_S)
        return self.death.result() if self.death.done() else None

    async def _read_messages(self, on_message: Callable[[Message], None]) -> None:
        while message := await self.read():
            on_message(message)


def _stuck(module: str) -> str:
    return (
        f"agents in {module!r} cannot load: the import has not ended after "
        f"{WARM_LIMIT_S:g} s; do slow work in a function under @outlast.on_worker_start"
    )


def _exited(module: str, code: int) -> str:
    return f"agents in {module!r} cannot load: importing them exits with code {code}"


@contextlib.asynccontextmanager
async def open_channel() -> AsyncIterator[
    tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]
]:
    """
    Open a channel to a process that is started within; the last is the process's end.
    """
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield reader, writer, theirs
    except BaseException:
        writer.close()
        raise
    finally:
        theirs.close()


async def start_process(
    command: list[str], workers: WorkerMarks, mark: int | None = None
) -> WorkerProcess:
    """
    Run *command*, which has its end of the channel as standard input.

    :param workers: reaps it, and ends what it has started if it carries *mark*.
    """
    async with open_channel() as (reader, writer, theirs):
        # Standard output is the parent's, for its ready line.
        options: dict[str, Any] = {
            "env": child_environment(),
            "stdin": theirs,
            "stdout": 2,
        }
        if sys.platform != "linux":
            other = await asyncio.create_subprocess_exec(*command, **options)
            death: Death = asyncio.ensure_future(other.wait())
            return WorkerProcess(other.pid, reader, writer, death)
        # Not asyncio's, which reaps it while what it has started still runs.
        process = subprocess.Popen(command, **options)
        process.returncode = 0  # else its destructor would have it reaped elsewhere
        if mark is not None:
            workers.add(process.pid, mark)
        death = asyncio.get_running_loop().create_future()
        resolve_at_death(process.pid, death, workers)
        return WorkerProcess(process.pid, reader, writer, death)


def resolve_at_death(pid: int, death: Death, workers: WorkerMarks) -> None:
    """
    Resolve *death* when the process has ended and what it had started is dead too;
    with None where it is not our child, and how it ended is not known.
    """
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        death.set_result(workers.reap(pid))
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(file)
        os.close(file)
        code = workers.reap(pid)
        if not death.done():
            death.set_result(code)

    loop.add_reader(file, ended)
