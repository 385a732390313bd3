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
from outlast.contracts.mesh_timing import (
    MESH_ANSWER_S,
    MESH_BOOT_MAX_MISSED_ANSWERS,
    MESH_MAX_MISSED_ANSWERS,
)
from outlast.contracts.retries import backoff_s
from outlast.mesh.node.control_socket import send_request
from outlast.mesh.node.membership import PeerConfig
from outlast.mesh.node.sidecar_main import EXIT_MESH_BAD_INPUT, sidecar_command
from outlast.process.programs import child_environment

logger = logging.getLogger("outlast.mesh")

MESH_LEAVE_LIMIT_S = 4.0
SIDECAR_ANSWER_S = 0.5
# It says that it has its place before it has read its log and its agents: one that
# dies sooner has failed.
SIDECAR_STEADY_S = 10.0


class Sidecar:
    """
    The gossip process of the peer at *place*, whose socket lies in *home*.

    :param answer_s: how long it has for an answer, and how often it is asked.
    """

    def __init__(
        self, place: PeerConfig, home: Path, answer_s: float = MESH_ANSWER_S
    ) -> None:
        self.config = place
        self._home = home
        self._answer_s = answer_s
        self.mesh = ""  # where it listens
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: list[asyncio.Task[None]] = []
        self._pipe: socket.socket | None = None
        self.restarts = 0

    async def start(self) -> None:
        """
        Start it and wait until it has its place in the mesh.

        :raises BadInputError: when it cannot have it.
        """
        await self._begin()
        self._supervisor = [
            asyncio.create_task(each()) for each in (self._supervise, self._watch)
        ]

    def counts(self) -> dict[str, Any]:
        """
        Ask it how it is, for /health; nothing where it does not answer.
        """
        try:
            told: dict[str, Any] = send_request(
                self._home, {"ask": "counts"}, SIDECAR_ANSWER_S
            )
        except OutlastError:
            told = {}
        told.pop("high_water", None)
        return {**self.describe(), **told, "restarts": self.restarts}

    def describe(self) -> dict[str, Any]:
        return {"peer": self.config.name, "mesh": self.mesh}

    async def stop(self) -> None:
        for each in self._supervisor:
            each.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), MESH_LEAVE_LIMIT_S)
        except TimeoutError:
            process.kill()

    async def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        self._process = await asyncio.create_subprocess_exec(
            *sidecar_command(self.config),
            env=child_environment(),
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the fleet, which ends it
        )
        theirs.close()
        self._pipe = ours
        told = await self._read_ready_line()
        if "mesh" in told:
            self.mesh = told["mesh"]
            return
        why = told.get("refused", "the gossip process did not start")
        if await self._process.wait() == EXIT_MESH_BAD_INPUT:
            raise BadInputError(why)
        raise UnavailableError(why)

    async def _read_ready_line(self) -> dict[str, str]:
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

    async def _supervise(self) -> None:
        """
        Start it again whenever it dies, ever more slowly while it does not live long.
        """
        failures, started = 0, True
        while True:
            if started:
                failures = await self._wait_for_exit(failures)
            if failures:
                await asyncio.sleep(backoff_s(failures))
            self.restarts += 1
            try:
                await self._begin()
                started = True
            except (OutlastError, OSError) as error:
                started, failures = False, failures + 1
                logger.warning("sidecar.refused: %s", error)

    async def _wait_for_exit(self, failures: int) -> int:
        """
        Wait until it has died; returns how often it has failed in a row by then.
        """
        began_s, why = time.monotonic(), "it died"
        while told := await self._read_ready_line():
            why = told.get("refused", why)
        logger.warning("sidecar.died: %s", why)
        return 0 if time.monotonic() - began_s > SIDECAR_STEADY_S else failures + 1

    async def _watch(self) -> None:
        """
        Kill it when it lives and does not answer. Answers are counted, not seconds, so
        that a fleet which was frozen itself blames nobody.
        """
        misses, watched = -MESH_BOOT_MAX_MISSED_ANSWERS, self._process
        while True:
            answers, _ = await asyncio.gather(
                asyncio.to_thread(self._answers), asyncio.sleep(self._answer_s)
            )
            if watched is not self._process:
                misses, watched = -MESH_BOOT_MAX_MISSED_ANSWERS, self._process
            misses = 0 if answers else misses + 1
            if (
                misses >= MESH_MAX_MISSED_ANSWERS
                and watched
                and watched.returncode is None
            ):
                logger.warning(
                    "sidecar.unresponsive: no answer to %d requests",
                    MESH_MAX_MISSED_ANSWERS,
                )
                watched.kill()

    def _answers(self) -> bool:
        try:
            send_request(self._home, {"ask": "counts"}, self._answer_s)
        except UnavailableError:
            return False
        except BadInputError:
            return True
        return True
