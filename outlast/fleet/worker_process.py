"""
One worker process as its parent knows it: what it says, and that it is surely dead.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outlast.fleet.process_kinds import DRAIN_DETECTED

# After its channel has closed, a process is gone or about to be.
CHANNEL_END_LIMIT_S = 1.0
# What one that has exited by itself has said is in the channel already; something that
# it forked may hold the channel open.
LAST_MESSAGES_S = 0.1


@dataclass
class WorkerProcess:
    """
    One worker process, from its birth to its death.
    """

    pid: int
    states: asyncio.StreamReader
    channel: asyncio.StreamWriter
    death: asyncio.Future[int | None]

    async def wait(self, on_message: Callable[[dict[str, Any]], None]) -> int | None:
        """
        Hear what it says until the process is surely dead; returns its exit code where
        that is known.
        """
        hearing = asyncio.ensure_future(self._read_messages(on_message))
        either: list[asyncio.Future[Any]] = [hearing, self.death]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.death.done():
            # Its channel closed. Kill before anything is reported of it.
            self.kill()
            await asyncio.wait([self.death], timeout=CHANNEL_END_LIMIT_S)
        elif (self.death.result() or 0) >= 0:
            await asyncio.wait([hearing], timeout=LAST_MESSAGES_S)
        hearing.cancel()
        self.channel.close()
        return self.death.result() if self.death.done() else None

    def drain(self, by_signal: bool) -> None:
        """
        Ask it to drain.

        :param by_signal: too, as long as no agent can have taken SIGTERM for itself:
            one that still imports its agents does not listen.
        """
        with contextlib.suppress(OSError):
            self.channel.write(DRAIN_DETECTED)
        if by_signal:
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

    async def _read_messages(
        self, on_message: Callable[[dict[str, Any]], None]
    ) -> None:
        while line := await self.states.readline():
            on_message(json.loads(line))
