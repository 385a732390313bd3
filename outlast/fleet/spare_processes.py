"""
Spares: where forking is not safe, a process that has imported everything waits for
its turn, so that the next worker is there as fast as a fork.

One is kept for the workers of a nursery; it opens nothing before it is told what to
be. The next one is made a moment after, when the worker before has its processor.
"""

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.warm_up import warm_up
from outlast.fleet.worker_process import CHANNEL_END_LIMIT_S, WorkerProcess
from outlast.process.stop_signals import ignore_hangup

logger = logging.getLogger("outlast.fleet")

# An import is interrupted after 60 s; one within a library's own code may not be.
WARM_LIMIT_S = 70.0
NEXT_SPARE_S = 0.5

Start = Callable[[], Awaitable[WorkerProcess]]


class SpareProcesses:
    """
    The parent's side: at most one spare, the next one under way.

    :param start: starts a process that stands by.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._next: asyncio.Task[WorkerProcess] | None = None
        self._wanted = asyncio.Event()

    async def take(self, kind: ProcessKind) -> WorkerProcess:
        """
        Have the spare become a worker of *kind*, or start one where there is none.

        :raises BadInputError: when what it imports cannot be used.
        """
        life = await self._ready_spare() or await self._warmed()
        if self._next is None:  # or one that was taken at once has seen to it
            self._wanted = asyncio.Event()
            self._next = asyncio.ensure_future(self._make_next(self._wanted))
        life.channel.write(json.dumps({"kind": kind}).encode() + b"\n")
        return life

    def close(self) -> None:
        """
        Let the spare go.
        """
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
            life = await coming
        except BadInputError:
            raise
        except (OSError, OutlastError):
            return None
        return None if life.death.done() else life

    async def _make_next(self, wanted: asyncio.Event) -> WorkerProcess:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wanted.wait(), NEXT_SPARE_S)
        return await self._warmed()

    async def _warmed(self) -> WorkerProcess:
        """
        Start a process and wait until it has imported everything.

        :raises BadInputError: when it says that it cannot, or has exited within an
            import. One that was killed is a worker that died before its first poll.
        """
        life = await self._start()
        module: str | None = None
        try:
            while told := await asyncio.wait_for(_read_line(life), WARM_LIMIT_S):
                module = told.get("importing")
                if "unusable" in told:
                    raise BadInputError(told["unusable"])
                if "warm" in told:
                    return life
        except TimeoutError:
            life.kill()
            raise BadInputError(stuck(module)) from None
        except BaseException:
            life.kill()
            raise
        life.kill()  # its channel closed: it is gone or about to be
        await asyncio.wait([life.death], timeout=CHANNEL_END_LIMIT_S)
        code = life.death.result() if life.death.done() else None
        if module is not None and code is not None and code >= 0:
            raise BadInputError(exited(module, code))
        logger.warning("worker.died_importing %s: exit code %s", module, code)
        return life


async def _read_line(life: WorkerProcess) -> dict[str, Any]:
    with contextlib.suppress(OSError):  # reset: it is dead
        if line := await life.states.readline():
            return dict(json.loads(line))
    return {}


def stuck(module: str | None) -> str:
    """
    Say that the import of *module* does not end, nor can be ended.
    """
    return (
        f"agents in {module!r} cannot load: the import has not ended after "
        f"{WARM_LIMIT_S:g} s; do slow work in a function under @outlast.on_worker_start"
    )


def exited(module: str, code: int | None) -> str:
    """
    Say that the import of *module* has ended its process.
    """
    return f"agents in {module!r} cannot load: importing them exits with code {code}"


def wait_for_kind(kind: ProcessKind, channel: socket.socket) -> ProcessKind:
    """
    Be a spare until told which kind of worker to become; ends with the parent.
    """

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, as is seen below
            channel.sendall(json.dumps(message).encode() + b"\n")

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    ignore_hangup()
    try:
        warm_up(kind, tell)
    except OutlastError as error:
        tell({"unusable": str(error)})
        os._exit(0)
    tell({"warm": os.getpid()})
    return ProcessKind(json.loads(_read_kind(channel))["kind"])


def _read_kind(channel: socket.socket) -> bytes:
    """
    Read one line, and not a byte of what may follow.
    """
    heard = b""
    while not heard.endswith(b"\n"):
        select.select([channel], [], [])
        byte = channel.recv(1)
        if not byte:
            sys.stderr.flush()
            os._exit(0)
        heard += byte
    return heard
