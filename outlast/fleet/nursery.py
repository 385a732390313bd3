"""
Where worker processes come from: forked from a zygote, or started anew where forking
is not safe.
"""

import asyncio
import logging
import socket
import subprocess
import sys

from outlast.contracts.errors import BadInputError
from outlast.fleet.kinds import Kind
from outlast.fleet.life import Life
from outlast.fleet.offspring import Workers, new_mark
from outlast.fleet.zygote_line import (
    UnbornError,
    UnsafeError,
    ZygoteLine,
    await_death,
)

logger = logging.getLogger("outlast.fleet")


class Nursery:
    """
    Starts workers of the kinds that share one zygote.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.forks = sys.platform == "linux"
        self.workers = Workers()  # started by exec, or left by a dead zygote
        self._zygote: ZygoteLine | None = None
        self._unusable: BadInputError | None = None
        self._one_at_a_time = asyncio.Lock()

    async def birth(self, kind: Kind) -> Life:
        """
        Start a worker of *kind*.

        :raises BadInputError: when what it should import cannot be used.
        :raises UnbornError: when there is no room for it; there may be later.
        """
        try:
            return await self._birth(kind)
        except OSError as error:  # of processes or open files the kernel has no more
            raise UnbornError(str(error)) from None

    async def _birth(self, kind: Kind) -> Life:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            async with self._one_at_a_time:
                pid, death = await self._start(kind, theirs)
        finally:
            theirs.close()
        return Life(pid, reader, writer, death)

    async def warm(self) -> None:
        """
        Have the zygote ready before it is needed.
        """
        async with self._one_at_a_time:
            if self.forks:
                await self._ready_zygote()

    def close(self) -> None:
        """
        Let the zygote go; workers that are left have channels of their own.
        """
        if self._zygote is not None:
            self._zygote.close()

    async def _start(
        self, kind: Kind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        if self.forks:
            try:
                zygote = await self._ready_zygote()
                return await zygote.fork(kind, channel)
            except UnsafeError as error:
                logger.warning("zygote.unsafe: workers start by exec: %s", error)
                self.forks = False
                self.close()
        return await self._exec(kind, channel)

    async def _ready_zygote(self) -> ZygoteLine:
        if self._unusable is not None:
            raise self._unusable  # known from the birth before: it takes seconds
        if self._zygote is None or self._zygote.gone:
            try:
                self._zygote = await ZygoteLine.start(self.kind, self.workers)
            except BadInputError as error:
                self._unusable = error
                raise
        return self._zygote

    async def _exec(
        self, kind: Kind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        mark = new_mark()
        module = ("-m", "outlast.fleet.child")
        command = [sys.executable, *module, kind, str(channel.fileno()), str(mark)]
        if sys.platform != "linux":
            process = await asyncio.create_subprocess_exec(
                *command,
                pass_fds=[channel.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
            )
            return process.pid, asyncio.ensure_future(process.wait())
        # Not asyncio's, which reaps it while what it has started still runs.
        pid = _spawn(command, channel)
        self.workers.add(pid, mark)
        death = asyncio.get_running_loop().create_future()
        await_death(pid, death, self.workers)
        return pid, death


def _spawn(command: list[str], channel: socket.socket) -> int:
    """
    Start a worker that inherits *channel*; returns its pid, for the caller to reap.
    """
    process = subprocess.Popen(
        command, pass_fds=[channel.fileno()], stdin=subprocess.DEVNULL, stdout=2
    )
    process.returncode = 0  # else its destructor would have it reaped elsewhere
    return process.pid
