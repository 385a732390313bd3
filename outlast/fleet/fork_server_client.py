"""
The parent's side of a zygote: it asks for births there and hears of deaths.
"""

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.spare_processes import WARM_LIMIT_S, exited, stuck
from outlast.fleet.subprocesses import WorkerMarks
from outlast.process.programs import child_environment, module_command

# A fork takes milliseconds.
FORK_LIMIT_S = 20.0


class ForkUnsafeError(OutlastError):
    """
    Forking is not safe here.
    """


class SpawnError(OutlastError):
    """
    The machine has no room for another process just now.
    """


class ForkServerClient:
    """
    The parent's side of a zygote.

    :param workers: takes over its workers when it dies: then they are ours.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        workers: WorkerMarks,
    ) -> None:
        self._workers = workers
        self._marks: dict[int, int] = {}
        self._process = process
        self._writer = writer  # a stream closes when nobody holds its writer
        self._channel = channel
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._deaths: dict[int, asyncio.Future[int | None]] = {}
        self._reading = asyncio.ensure_future(self._read(reader))
        self.gone = self.stuck = False

    @classmethod
    async def start(cls, kind: ProcessKind, workers: WorkerMarks) -> "ForkServerClient":
        ours, theirs = socket.socketpair()
        sending = ours.dup()  # the stream owns the other one
        process = await asyncio.create_subprocess_exec(
            *(*module_command("outlast.fleet.fork_server"), kind),
            env=child_environment(),
            stdin=theirs.fileno(),
            stdout=2,  # standard output is the parent's, for its ready line
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        client = cls(process, sending, reader, writer, workers)
        try:
            await client._ready()
        except BaseException:
            client.close()
            raise
        return client

    async def _ready(self) -> None:
        """
        Wait until it has imported everything.

        :raises BadInputError: when it cannot, or an import holds it or ends it.
        :raises ForkUnsafeError: when what was imported is not to be forked.
        """
        importing: str | None = None
        while True:
            try:
                told = await self._answer(("ready", "importing"), WARM_LIMIT_S)
            except ForkUnsafeError as error:
                code = self._process.returncode
                if importing is not None and self.stuck:
                    raise BadInputError(stuck(importing)) from error
                if importing is not None and code is not None and code >= 0:
                    raise BadInputError(exited(importing, code)) from error
                raise
            if "ready" in told:
                return
            importing = told["importing"]

    async def fork(
        self, kind: ProcessKind, channel: socket.socket
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        request = json.dumps({"kind": kind}).encode()
        try:
            socket.send_fds(self._channel, [request], [channel.fileno()])
        except OSError as error:
            self.gone = True
            raise ForkUnsafeError(f"the zygote is gone: {error}") from None
        answer = await self._answer(("forked",))
        return int(answer["forked"]), answer["death"]

    def close(self) -> None:
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def _answer(
        self, wanted: tuple[str, ...], limit_s: float = FORK_LIMIT_S
    ) -> dict[str, Any]:
        try:
            answer = await asyncio.wait_for(self._answers.get(), limit_s)
        except TimeoutError:
            # Frozen, and nothing watches it: it must hold up no birth and no stop.
            self.gone = self.stuck = True
            self._process.kill()
            raise ForkUnsafeError("the zygote does not answer") from None
        if "unusable" in answer:
            raise BadInputError(str(answer["unusable"]))
        if "unborn" in answer:
            raise SpawnError(str(answer["unborn"]))
        if not answer.keys() & set(wanted):
            raise ForkUnsafeError(str(answer.get("unsafe", "the zygote died")))
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "died" in message:
                self._marks.pop(message["died"], None)
                death = self._deaths.pop(message["died"], None)
                if death is not None:
                    death.set_result(message["code"])
                continue
            if "forked" in message:
                # Not the death of an earlier process to which the kernel gave the
                # same number.
                message["death"] = self._deaths[message["forked"]] = _future()
                self._marks[message["forked"]] = message["mark"]
            self._answers.put_nowait(message)
        self.gone = True
        for pid, death in self._deaths.items():
            self._workers.add(pid, self._marks[pid])
            await_death(pid, death, self._workers)
        await self._process.wait()
        self._answers.put_nowait({})


def await_death(
    pid: int, death: "asyncio.Future[int | None]", workers: WorkerMarks
) -> None:
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


def _future() -> "asyncio.Future[int | None]":
    return asyncio.get_running_loop().create_future()
