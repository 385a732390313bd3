"""
The fleet's parent: starts worker processes and starts a dead one again.

It runs no agent code and loads no Temporal client, so that nothing an agent does can
reach it. A death in service is answered at once; a process that dies before it polls
is tried again ever more slowly, and after a few times in a row the parent gives up,
so that whoever keeps *it* alive can see.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from outlast.runtime.settings import Settings

logger = logging.getLogger("outlast.fleet")

AGENTS = "agents"
WORKFLOWS = "workflows"

# Deaths before polling, in a row, after which nothing will change by trying again.
STILLBORN_LIMIT = 5
STILLBORN_PAUSE_S = 0.2

# What a child may take beyond its drain time before it is killed.
KILL_AFTER_S = 4.0

BAD_INPUT = 2  # a child's word that trying again changes nothing
EXIT_CANNOT_START = 70  # EX_SOFTWARE, for systemd or compose to act on


@dataclass
class Child:
    """
    One place in the fleet and the process that fills it now.
    """

    kind: str
    process: asyncio.subprocess.Process | None = None
    polling: bool = False
    stillborn: int = 0
    restarts: int = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None


@dataclass
class Fleet:
    """
    The worker processes of one host: one for workflows, the others for agents.
    """

    settings: Settings
    ready: Callable[["Fleet"], None]
    children: list[Child] = field(init=False)
    failed: bool = False

    def __post_init__(self) -> None:
        agents = [Child(AGENTS) for _ in range(self.settings.processes)]
        self.children = [Child(WORKFLOWS), *agents]
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._announced = False

    async def run(self) -> int:
        """
        Keep the children alive until a signal; returns the exit code.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        await asyncio.gather(*(self._keep(child) for child in self.children))
        return EXIT_CANNOT_START if self.failed else 0

    def describe(self) -> dict[str, Any]:
        """
        List the processes, as the ready line shows them.
        """
        workers = [{"pid": child.pid, "kind": child.kind} for child in self.children]
        return {"fleet": os.getpid(), "workers": workers}

    def stop(self) -> None:
        """
        Drain all children.
        """
        self._stopping.set()

    def _signalled(self) -> None:
        if self._stopping.is_set():
            self._killing.set()  # the second one: whoever asks twice means now
        self.stop()

    async def _keep(self, child: Child) -> None:
        """
        Fill one place until the fleet stops.
        """
        while not self._stopping.is_set():
            code = await self._live(child)
            if self._stopping.is_set():
                return
            logger.warning(
                "child.died kind=%s pid=%s code=%s", child.kind, child.pid, code
            )
            child.restarts += 1
            child.stillborn = 0 if child.polling else child.stillborn + 1
            if code == BAD_INPUT or child.stillborn >= STILLBORN_LIMIT:
                self._give_up(child, code)
            elif child.stillborn:
                await self._pause(STILLBORN_PAUSE_S * 2**child.stillborn)

    async def _live(self, child: Child) -> int:
        """
        Start the child's process and stay with it until it has ended.
        """
        child.polling = False
        child.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "outlast.fleet.child",
            child.kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        reading = asyncio.ensure_future(self._read_signs(child, process))
        draining = asyncio.ensure_future(self._drain(process))
        code = await process.wait()
        draining.cancel()
        reading.cancel()
        return code

    async def _read_signs(
        self, child: Child, process: asyncio.subprocess.Process
    ) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if json.loads(line)["sign"] == "polling":
                child.polling = True
                self._announce()

    def _announce(self) -> None:
        if not self._announced and all(child.polling for child in self.children):
            self._announced = True
            self.ready(self)

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        """
        Ask the process to end once the fleet stops, and kill it if it does not.
        """
        await self._stopping.wait()
        process.terminate()
        limit = self.settings.drain_s + KILL_AFTER_S
        try:
            await asyncio.wait_for(self._killing.wait(), limit)
        except TimeoutError:
            logger.warning("child.killed pid=%s: it did not drain", process.pid)
        process.kill()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _give_up(self, child: Child, code: int) -> None:
        logger.error(
            "fleet.gave_up: %s processes die before they work, exit code %s; what "
            "they said stands above",
            child.kind,
            code,
        )
        self.failed = True
        self.stop()
