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

# After its channel has closed, a process is gone or about to be.
GONE_LIMIT_S = 1.0


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
