"""
Where worker processes come from: forked from a zygote, or, where forking is not safe,
started anew and kept warm as spares.
"""

import asyncio
import logging
import socket
import subprocess
import sys

from outlast.contracts.errors import BadInputError
from outlast.fleet.fork_server_client import (
    ForkServerClient,
    ForkUnsafeError,
    SpawnError,
    await_death,
)
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.spare_processes import SpareProcesses
from outlast.fleet.subprocesses import WorkerMarks, new_mark
from outlast.fleet.worker_process import WorkerProcess
from outlast.process.programs import child_environment, module_command

logger = logging.getLogger("outlast.fleet")


class Spawner:
    """
    Starts workers of the kinds that share one zygote.
    """

    def __init__(self, kind: ProcessKind) -> None:
        self.kind = kind
        self.forks = sys.platform == "linux"
        self.workers = WorkerMarks()  # started by exec, or left by a dead zygote
        self._fork_server: ForkServerClient | None = None
        self._unusable: BadInputError | None = None
        self._one_at_a_time = asyncio.Lock()
        self._spares = SpareProcesses(self._executed)

    async def spawn(self, kind: ProcessKind) -> WorkerProcess:
        """
        Start a worker of *kind*.

        :raises BadInputError: when what it should import cannot be used.
        :raises SpawnError: when there is no room for it; there may be later.
        """
        try:
            return await self._spawn(kind)
        except OSError as error:  # of processes or open files the kernel has no more
            raise SpawnError(str(error)) from None

    async def _spawn(self, kind: ProcessKind) -> WorkerProcess:
        life = await self._forked(kind) if self.forks else None
        return life or await self._spares.take(kind)

    async def _forked(self, kind: ProcessKind) -> WorkerProcess | None:
        """
        Fork a worker; None where that is not safe.
        """
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        forked = None
        try:
            async with self._one_at_a_time:
                forked = await self._fork(kind, theirs)
        finally:
            theirs.close()
            if forked is None:
                writer.close()
        return WorkerProcess(forked[0], reader, writer, forked[1]) if forked else None

    async def _fork(
        self, kind: ProcessKind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"] | None:
        if not self.forks:
            return None  # as the birth before ours has found
        try:
            fork_server = await self._ready_fork_server()
            return await fork_server.fork(kind, channel)
        except ForkUnsafeError as error:
            logger.warning("fork_server.unsafe: workers start by exec: %s", error)
            self.forks = False
            self._close_fork_server()
            return None

    async def _executed(self) -> WorkerProcess:
        """
        Start a process that imports everything and stands by.
        """
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            pid, death = await self._exec(self.kind, theirs)
        except BaseException:
            writer.close()
            raise
        finally:
            theirs.close()
        return WorkerProcess(pid, reader, writer, death)

    async def warm(self) -> None:
        """
        Have the zygote ready before it is needed.
        """
        async with self._one_at_a_time:
            if self.forks:
                await self._ready_fork_server()

    def close(self) -> None:
        """
        Let zygote and spare go; workers that are left have channels of their own.
        """
        self._close_fork_server()
        self._spares.close()

    def _close_fork_server(self) -> None:
        if self._fork_server is not None:
            self._fork_server.close()

    async def _ready_fork_server(self) -> ForkServerClient:
        if self._unusable is not None:
            raise self._unusable  # known from the birth before: it takes seconds
        if self._fork_server is None or self._fork_server.gone:
            try:
                self._fork_server = await ForkServerClient.start(
                    self.kind, self.workers
                )
            except BadInputError as error:
                self._unusable = error
                raise
        return self._fork_server

    async def _exec(
        self, kind: ProcessKind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        mark = new_mark()
        program = module_command("outlast.fleet.worker_main")
        command = [*program, kind, str(channel.fileno()), str(mark)]
        if sys.platform != "linux":
            process = await asyncio.create_subprocess_exec(
                *command,
                env=child_environment(),
                pass_fds=[channel.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
            )
            return process.pid, asyncio.ensure_future(process.wait())
        # Not asyncio's, which reaps it while what it has started still runs.
        pid = _execute(command, channel)
        self.workers.add(pid, mark)
        death = asyncio.get_running_loop().create_future()
        await_death(pid, death, self.workers)
        return pid, death


def _execute(command: list[str], channel: socket.socket) -> int:
    """
    Start a worker that inherits *channel*; returns its pid, for the caller to reap.
    """
    process = subprocess.Popen(
        command,
        env=child_environment(),
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,
    )
    process.returncode = 0  # else its destructor would have it reaped elsewhere
    return process.pid
