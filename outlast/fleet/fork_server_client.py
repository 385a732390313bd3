"""
The parent's side of the fork server: it asks for workers there and hears of their
deaths.
"""

import asyncio
import socket
from dataclasses import dataclass

from outlast.contracts.errors import OutlastError
from outlast.fleet.messages import (
    Died,
    Forked,
    ForkFailed,
    ForkUnsafe,
    StartWorker,
    Warm,
    encode,
)
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks
from outlast.fleet.worker_process import (
    Death,
    WorkerProcess,
    open_channel,
    resolve_at_death,
    start_process,
)
from outlast.process.programs import module_command

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


@dataclass
class ForkedWorker:
    pid: int
    mark: int
    death: Death


class ForkServerClient:
    """
    A fork server that is warm.

    :param workers: gets its workers when it dies: then they are ours.
    """

    def __init__(self, server: WorkerProcess, workers: WorkerMarks) -> None:
        self._server = server
        self._workers = workers
        # A stream cannot pass on open files.
        stream = server.channel.get_extra_info("socket")
        self._channel = socket.fromfd(stream.fileno(), stream.family, stream.type)
        self._answers: asyncio.Queue[ForkedWorker | ForkFailed | ForkUnsafe] = (
            asyncio.Queue()
        )
        self._forked: dict[int, ForkedWorker] = {}
        self._reading = asyncio.ensure_future(self._read())
        self.gone = False

    @classmethod
    async def start(cls, kind: ProcessKind, workers: WorkerMarks) -> "ForkServerClient":
        """
        Start a fork server for workers that import what those of *kind* do.

        :raises BadInputError: when the agents cannot be loaded.
        :raises ForkUnsafeError: when what was imported is not to be forked.
        """
        command = [*module_command("outlast.fleet.fork_server"), kind]
        server = await start_process(command, workers)
        message = await server.wait_until_warm()
        if not isinstance(message, Warm):
            server.terminate()
            raise ForkUnsafeError(message.why if message else "the fork server died")
        return cls(server, workers)

    async def fork(self, kind: ProcessKind) -> WorkerProcess:
        async with open_channel() as (reader, writer, theirs):
            forked = await self._fork(kind, theirs)
        return WorkerProcess(forked.pid, reader, writer, forked.death)

    async def _fork(self, kind: ProcessKind, channel: socket.socket) -> ForkedWorker:
        request = encode(StartWorker(kind=kind))
        try:
            socket.send_fds(self._channel, [request], [channel.fileno()])
            answer = await asyncio.wait_for(self._answers.get(), FORK_LIMIT_S)
        except TimeoutError:
            # Frozen, and nothing watches it: it must hold up no spawn and no stop.
            self.gone = True
            self._server.kill()
            raise ForkUnsafeError("the fork server does not answer") from None
        except OSError as error:
            self.gone = True
            raise ForkUnsafeError(f"the fork server is gone: {error}") from None
        match answer:
            case ForkUnsafe():
                raise ForkUnsafeError(answer.why)
            case ForkFailed():
                raise SpawnError(answer.why)
        return answer

    def close(self) -> None:
        """
        End it. Its workers live on: they have channels of their own.
        """
        self._channel.close()
        self._server.terminate()

    async def _read(self) -> None:
        while message := await self._server.read():
            match message:
                case Died():
                    if forked := self._forked.pop(message.pid, None):
                        forked.death.set_result(message.code)
                case Forked():
                    # Not the death of an earlier process to which the kernel gave the
                    # same number.
                    death = asyncio.get_running_loop().create_future()
                    worker = ForkedWorker(message.pid, message.mark, death)
                    self._forked[message.pid] = worker
                    self._answers.put_nowait(worker)
                case ForkFailed() | ForkUnsafe():
                    self._answers.put_nowait(message)
        self.gone = True
        for each in self._forked.values():
            self._workers.add(each.pid, each.mark)
            resolve_at_death(each.pid, each.death, self._workers)
        await self._server.death
        self._answers.put_nowait(ForkUnsafe(why="the fork server died"))
