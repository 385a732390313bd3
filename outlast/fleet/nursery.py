"""
Where worker processes come from: forked from a zygote, or started anew where forking
is not safe.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.fleet.kinds import Kind

logger = logging.getLogger("outlast.fleet")

# After its channel has closed, a process is gone or about to be.
GONE_LIMIT_S = 1.0
# A fork takes milliseconds; being ready the imports of everything, which on a crowded
# machine may wait for a processor most of the time.
ANSWER_LIMIT_S = 20.0
READY_LIMIT_S = 60.0


@dataclass
class Life:
    """
    One worker process, from its birth to its death.
    """

    pid: int
    signs: asyncio.StreamReader
    channel: asyncio.StreamWriter
    death: asyncio.Future[int | None]

    async def ended(self, heard: Callable[[dict[str, Any]], None]) -> int | None:
        """
        Hear what it says until the process is surely dead; returns its exit code where
        that is known.
        """
        hearing = asyncio.ensure_future(self._hear(heard))
        either: list[asyncio.Future[Any]] = [hearing, self.death]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.death.done():
            # Its channel closed. Kill before anything is reported of it.
            self.kill()
            await asyncio.wait([self.death], timeout=GONE_LIMIT_S)
        hearing.cancel()
        self.channel.close()
        return self.death.result() if self.death.done() else None

    def terminate(self) -> None:
        """
        Ask it to drain.
        """
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

    async def _hear(self, heard: Callable[[dict[str, Any]], None]) -> None:
        while line := await self.signs.readline():
            heard(json.loads(line))


class Nursery:
    """
    Starts workers of the kinds that share one zygote.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.forks = sys.platform == "linux"
        self._zygote: _Zygote | None = None
        self._unusable: BadInputError | None = None
        self._one_at_a_time = asyncio.Lock()

    async def birth(self, kind: Kind) -> Life:
        """
        Start a worker of *kind*.

        :raises BadInputError: when what it should import cannot be used.
        """
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
        return await _exec(kind, channel)

    async def _ready_zygote(self) -> "_Zygote":
        if self._unusable is not None:
            raise self._unusable  # known from the birth before: it takes seconds
        if self._zygote is None or self._zygote.gone:
            try:
                self._zygote = await _Zygote.start(self.kind)
            except BadInputError as error:
                self._unusable = error
                raise
        return self._zygote


class UnsafeError(OutlastError):
    """
    Forking is not safe here.
    """


class _Zygote:
    """
    The parent's side of a zygote.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._writer = writer  # a stream closes when nobody holds its writer
        self._channel = channel
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._deaths: dict[int, asyncio.Future[int | None]] = {}
        self._reading = asyncio.ensure_future(self._read(reader))
        self.gone = False

    @classmethod
    async def start(cls, kind: Kind) -> "_Zygote":
        ours, theirs = socket.socketpair()
        sending = ours.dup()  # the stream owns the other one
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.fleet.zygote", kind),
            stdin=theirs.fileno(),
            stdout=2,  # standard output is the parent's, for its ready line
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        zygote = cls(process, sending, reader, writer)
        await zygote._answer("ready", READY_LIMIT_S)
        return zygote

    async def fork(
        self, kind: Kind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        request = json.dumps({"kind": kind}).encode()
        try:
            socket.send_fds(self._channel, [request], [channel.fileno()])
        except OSError as error:
            self.gone = True
            raise UnsafeError(f"the zygote is gone: {error}") from None
        answer = await self._answer("forked")
        return int(answer["forked"]), answer["death"]

    def close(self) -> None:
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def _answer(
        self, wanted: str, limit_s: float = ANSWER_LIMIT_S
    ) -> dict[str, Any]:
        try:
            answer = await asyncio.wait_for(self._answers.get(), limit_s)
        except TimeoutError:
            # Frozen, and nothing watches it: it must hold up no birth and no stop.
            self.gone = True
            self._process.kill()
            raise UnsafeError("the zygote does not answer") from None
        if "unusable" in answer:
            raise BadInputError(str(answer["unusable"]))
        if wanted not in answer:
            raise UnsafeError(str(answer.get("unsafe", "the zygote died")))
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "died" in message:
                death = self._deaths.pop(message["died"], None)
                if death is not None:  # else an agent's module had started it
                    death.set_result(message["code"])
                continue
            if "forked" in message:
                # Not the death of an earlier process to which the kernel gave the
                # same number.
                message["death"] = self._deaths[message["forked"]] = _future()
            self._answers.put_nowait(message)
        self.gone = True
        self._answers.put_nowait({})
        for pid, death in self._deaths.items():
            _watch(pid, death)  # nobody reaps for us any more
        await self._process.wait()


async def _exec(
    kind: Kind, channel: socket.socket
) -> tuple[int, "asyncio.Future[int | None]"]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.fleet.child", kind, str(channel.fileno())),
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,
    )
    return process.pid, asyncio.ensure_future(process.wait())


def _watch(pid: int, death: "asyncio.Future[int | None]") -> None:
    """
    Resolve *death* when the process, which is not our child, ends; how is not known.
    """
    if death.done():
        return
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        death.set_result(None)
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(file)
        os.close(file)
        if not death.done():
            death.set_result(None)

    loop.add_reader(file, ended)


def _future() -> "asyncio.Future[int | None]":
    return asyncio.get_running_loop().create_future()
