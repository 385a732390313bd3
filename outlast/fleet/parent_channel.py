"""
A worker's end of the channel to its parent: what it tells, and why it ends.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from outlast.contracts.errors import BadInputError, OutlastError, StoreLostError
from outlast.fleet.messages import DRAIN_REQUEST, Exiting, Message, encode, send
from outlast.fleet.process_kinds import ExitReason
from outlast.secrets import mask

# The parent reads all the time, unless it is frozen.
EXIT_REASON_LIMIT_S = 1.0


class WorkerStoppedError(OutlastError):
    """
    A worker has ended by itself, which it does only when it cannot go on.
    """


@dataclass
class ParentChannel:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: Message) -> None:
        self.writer.write(encode(message))

    async def watch(self, stop: asyncio.Event) -> None:
        """
        Set *stop* when the parent asks for a drain, or is gone.
        """
        with contextlib.suppress(OSError):
            while await self.reader.readline() not in (DRAIN_REQUEST, b""):
                pass
        stop.set()


def exit_reason_of(error: OutlastError) -> ExitReason:
    """
    Choose what the parent does about *error*. A store that is away, for one, may be
    there the next time.
    """
    match error:
        case WorkerStoppedError():
            return ExitReason.WORKER_STOPPED
        case StoreLostError():
            return ExitReason.STORE
        case BadInputError():
            return ExitReason.BAD_INPUT
    return ExitReason.FAILED


def send_exit_reason(channel: socket.socket, error: OutlastError) -> None:
    channel.settimeout(EXIT_REASON_LIMIT_S)
    send(channel, Exiting(reason=exit_reason_of(error), why=mask(str(error))))
