"""
The gossip process, as its fleet keeps it: started again whenever it dies, and killed
when it hangs, for what it has in hand is held until somebody gives the word.

It reads the end of a pipe that only the fleet holds, so it never outlives it.
"""

import asyncio
import contextlib
import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.contracts.policies import (
    MESH_ANSWER_S,
    MESH_BOOT_MISSES,
    MESH_MISSES,
    backoff_s,
)
from outlast.mesh.node.control_socket import ask
from outlast.mesh.node.membership import Place
from outlast.mesh.node.sidecar_main import BAD_INPUT, command
from outlast.process.programs import environment

logger = logging.getLogger("outlast.mesh")

LEAVE_LIMIT_S = 4.0
ASK_LIMIT_S = 0.5
# It says that it has its place before it has read its log and its agents: one that
# dies sooner has failed.
STEADY_S = 10.0


class Beside:
    """
    The gossip process of the peer at *place*, whose socket lies in *home*.

    :param answer_s: how long it has for an answer, and how often it is asked.
    """

    def __init__(
        self, place: Place, home: Path, answer_s: float = MESH_ANSWER_S
    ) -> None:
        self.place = place
        self._home = home
        self._answer_s = answer_s
        self.mesh = ""  # where it listens
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._pipe: socket.socket | None = None
        self.restarts = 0

    async def start(self) -> None:
        """
        Start it and wait until it has its place in the mesh.

        :raises BadInputError: when it cannot have it.
        """
        await self._begin()
        self._keeping = [
            asyncio.create_task(each()) for each in (self._keep, self._watch)
        ]

    def counts(self) -> dict[str, Any]:
        """
        Ask it how it is, for /health; nothing where it does not answer.
        """
        try:
            told: dict[str, Any] = ask(self._home, {"ask": "counts"}, ASK_LIMIT_S)
        except OutlastError:
            told = {}
        told.pop("heads", None)
        return {**self.describe(), **told, "restarts": self.restarts}

    def describe(self) -> dict[str, Any]:
        """
        Say who and where it is, for the ready line.
        """
        return {"peer": self.place.name, "mesh": self.mesh}

    async def stop(self) -> None:
        """
        Have it leave the mesh.
        """
        for each in self._keeping:
            each.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), LEAVE_LIMIT_S)
        except TimeoutError:
            process.kill()

    async def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        self._process = await asyncio.create_subprocess_exec(
            *command(self.place),
            env=environment(),
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the fleet, which ends it
        )
        theirs.close()
        self._pipe = ours
        told = await self._told()
        if "mesh" in told:
            self.mesh = told["mesh"]
            return
        why = told.get("refused", "the gossip process did not start")
        if await self._process.wait() == BAD_INPUT:
            raise BadInputError(why)
        raise UnavailableError(why)

    async def _told(self) -> dict[str, str]:
        """
        Read its next word, {} once it has ended; what agents print is none.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        word: Any = None
        while not (isinstance(word, dict) and word):
            with contextlib.suppress(ValueError):
                if not (line := await self._process.stdout.readline()):
                    return {}
                word = json.loads(line)
        return word

    async def _keep(self) -> None:
        """
        Start it again whenever it dies, ever more slowly while it does not live long.
        """
        failures, begun = 0, True
        while True:
            if begun:
                failures = await self._outlive(failures)
            if failures:
                await asyncio.sleep(backoff_s(failures))
            self.restarts += 1
            try:
                await self._begin()
                begun = True
            except (OutlastError, OSError) as error:
                begun, failures = False, failures + 1
                logger.warning("gossip.refused: %s", error)

    async def _outlive(self, failures: int) -> int:
        """
        Wait until it has died; returns how often it has failed in a row by then.
        """
        began_s, why = time.monotonic(), "it died"
        while told := await self._told():
            why = told.get("refused", why)
        logger.warning("gossip.died: %s", why)
        return 0 if time.monotonic() - began_s > STEADY_S else failures + 1

    async def _watch(self) -> None:
        """
        Kill it when it lives and does not answer. Answers are counted, not seconds, so
        that a fleet which was frozen itself blames nobody.
        """
        misses, watched = -MESH_BOOT_MISSES, self._process
        while True:
            answers, _ = await asyncio.gather(
                asyncio.to_thread(self._answers), asyncio.sleep(self._answer_s)
            )
            if watched is not self._process:
                misses, watched = -MESH_BOOT_MISSES, self._process
            misses = 0 if answers else misses + 1
            if misses >= MESH_MISSES and watched and watched.returncode is None:
                logger.warning("gossip.hangs: no answer to %d requests", MESH_MISSES)
                watched.kill()

    def _answers(self) -> bool:
        try:
            ask(self._home, {"ask": "counts"}, self._answer_s)
        except UnavailableError:
            return False
        except BadInputError:
            return True
        return True
