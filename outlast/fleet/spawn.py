"""
Where worker processes come from: forked from a process that has imported everything,
or, where forking is not safe, made of a spare that has done so.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.fleet.fork_server_client import (
    ForkServerClient,
    ForkUnsafeError,
    SpawnError,
)
from outlast.fleet.messages import StartWorker, encode
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks, new_mark
from outlast.fleet.worker_process import WorkerProcess, start_process
from outlast.process.programs import module_command

logger = logging.getLogger("outlast.fleet")

# The worker that was just started has its processor for so long.
NEXT_SPARE_S = 0.5


class Spawner:
    """
    Starts workers of the kinds that import what *kind* does.
    """

    def __init__(self, kind: ProcessKind) -> None:
        self._kind = kind
        self.workers = WorkerMarks()  # started by exec, or left by a dead fork server
        self._forks = sys.platform == "linux"
        self._fork_server: ForkServerClient | None = None
        self._unusable: BadInputError | None = None
        self._one_at_a_time = asyncio.Lock()
        self._spares = SpareProcesses(self._start_spare)

    async def spawn(self, kind: ProcessKind) -> WorkerProcess:
        """
        Start a worker of *kind*.

        :raises BadInputError: when what it should import cannot be used.
        :raises SpawnError: when there is no room for it; there may be later.
        """
        try:
            return await self._fork(kind) or await self._spares.take(kind)
        except OSError as error:  # of processes or open files the kernel has no more
            raise SpawnError(str(error)) from None

    def close(self) -> None:
        """
        End fork server and spare; workers that are left have channels of their own.
        """
        if self._fork_server is not None:
            self._fork_server.close()
        self._spares.close()

    async def _fork(self, kind: ProcessKind) -> WorkerProcess | None:
        """
        Fork a worker; None where that is not safe.
        """
        async with self._one_at_a_time:
            if not self._forks:
                return None
            try:
                return await (await self._warm_fork_server()).fork(kind)
            except ForkUnsafeError as error:
                logger.warning("fork_server.unsafe: workers start by exec: %s", error)
                self._forks = False
                if self._fork_server is not None:
                    self._fork_server.close()
                return None

    async def _warm_fork_server(self) -> ForkServerClient:
        if self._unusable is not None:
            raise self._unusable  # known from the spawn before: it takes seconds
        if self._fork_server is None or self._fork_server.gone:
            try:
                self._fork_server = await ForkServerClient.start(
                    self._kind, self.workers
                )
            except BadInputError as error:
                self._unusable = error
                raise
        return self._fork_server

    async def _start_spare(self) -> WorkerProcess:
        mark = new_mark()
        command = [*module_command("outlast.fleet.warm_up"), self._kind, str(mark)]
        return await start_process(command, self.workers, mark)


class SpareProcesses:
    """
    At most one process that has imported everything and waits to become a worker, so
    that the next one is there as fast as a fork. It opens nothing before.

    :param start: starts such a process.
    """

    def __init__(self, start: Callable[[], Awaitable[WorkerProcess]]) -> None:
        self._start = start
        self._next: asyncio.Task[WorkerProcess] | None = None
        self._wanted = asyncio.Event()

    async def take(self, kind: ProcessKind) -> WorkerProcess:
        """
        Have the spare become a worker of *kind*, or start one where there is none.

        :raises BadInputError: when what it imports cannot be used.
        """
        process = await self._ready_spare() or await self._warmed()
        if self._next is None:  # or one that was taken at once has seen to it
            self._wanted = asyncio.Event()
            self._next = asyncio.ensure_future(self._make_next(self._wanted))
        process.channel.write(encode(StartWorker(kind=kind)))
        return process

    def close(self) -> None:
        if self._next is None:
            return
        self._next.cancel()
        if self._next.done() and not self._next.cancelled():
            with contextlib.suppress(Exception):  # then there is none
                self._next.result().kill()

    async def _ready_spare(self) -> WorkerProcess | None:
        """
        Take the spare that there is or that is being made, unless it has died.
        """
        coming, self._next = self._next, None
        if coming is None:
            return None
        self._wanted.set()
        try:
            process = await coming
        except BadInputError:
            raise
        except (OSError, OutlastError):
            return None
        return None if process.death.done() else process

    async def _make_next(self, wanted: asyncio.Event) -> WorkerProcess:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wanted.wait(), NEXT_SPARE_S)
        return await self._warmed()

    async def _warmed(self) -> WorkerProcess:
        """
        Start a process and wait until it has imported everything. One that was killed
        meanwhile is a worker that died before its first poll.
        """
        process = await self._start()
        await process.wait_until_warm()
        return process
