"""
The gossip process, as its fleet keeps it: started again whenever it dies, and killed
when it hangs, since its runs are suspended until a permit is renewed.

It reads the end of a pipe that only the fleet holds, so it never outlives the fleet.
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
from outlast.process.programs import child_environment, end_process

logger = logging.getLogger("outlast.mesh")

MESH_LEAVE_LIMIT_S = 4.0
SIDECAR_ANSWER_S = 0.5
# It is ready before it has read its log and its agents: one that dies sooner than this
# has failed.
SIDECAR_STEADY_S = 10.0


class Sidecar:
    """
    The gossip process of the peer at *place*, whose socket is in *home*.

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
        Start it and wait until it has joined the mesh.

        :raises BadInputError: when its address or its name is taken.
        """
        await self._begin()
        self._supervisor = [
            asyncio.create_task(each()) for each in (self._supervise, self._watch)
        ]

    def counts(self) -> dict[str, Any]:
        """
        What it counts, for /health; only its name and address if it does not answer.
        """
        try:
            counts = dict(self._ask(SIDECAR_ANSWER_S))
        except OutlastError:
            counts = {}
        counts.pop("high_water", None)
        return {**self.describe(), **counts, "restarts": self.restarts}

    def describe(self) -> dict[str, Any]:
        return {"peer": self.config.name, "mesh": self.mesh}

    async def stop(self) -> None:
        for each in self._supervisor:
            each.cancel()
        if self._process is not None:
            await end_process(self._process, MESH_LEAVE_LIMIT_S)

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
        line = await self._read_line()
        if "mesh" in line:
            self.mesh = line["mesh"]
            return
        why = line.get("refused", "the gossip process did not start")
        if await self._process.wait() == EXIT_MESH_BAD_INPUT:
            raise BadInputError(why)
        raise UnavailableError(why)

    async def _read_line(self) -> dict[str, str]:
        """
        Read its next line, {} once it has ended; what agents print is skipped.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        while raw := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                line = json.loads(raw)
                if isinstance(line, dict) and line:
                    return line
        return {}

    async def _supervise(self) -> None:
        """
        Start it again whenever it dies, after ever longer pauses while it does not live
        SIDECAR_STEADY_S.
        """
        failures, started = 0, True
        while True:
            if started:
                failures = 0 if await self._wait_for_exit() else failures + 1
            if failures:
                await asyncio.sleep(backoff_s(failures))
            self.restarts += 1
            try:
                await self._begin()
                started = True
            except (OutlastError, OSError) as error:
                started, failures = False, failures + 1
                logger.warning("sidecar.refused: %s", error)

    async def _wait_for_exit(self) -> bool:
        """
        Wait until it has died; returns whether it had worked for a while.
        """
        began_s, why = time.monotonic(), "it died"
        while line := await self._read_line():
            why = line.get("refused", why)
        logger.warning("sidecar.died: %s", why)
        return time.monotonic() - began_s > SIDECAR_STEADY_S

    async def _watch(self) -> None:
        """
        Kill it when it lives and does not answer. Answers are counted, not seconds, so
        that a fleet which was frozen itself kills no healthy sidecar.
        """
        misses, watched = -MESH_BOOT_MAX_MISSED_ANSWERS, self._process
        while True:
            answers, _ = await asyncio.gather(
                asyncio.to_thread(self._answers), asyncio.sleep(self._answer_s)
            )
            if watched is not self._process:
                misses, watched = -MESH_BOOT_MAX_MISSED_ANSWERS, self._process
            misses = 0 if answers else misses + 1
            alive = watched and watched.returncode is None
            if watched and alive and misses >= MESH_MAX_MISSED_ANSWERS:
                logger.warning("sidecar.unresponsive: no answer to %d requests", misses)
                watched.kill()

    def _answers(self) -> bool:
        try:
            self._ask(self._answer_s)
        except UnavailableError:
            return False
        except BadInputError:
            pass  # a refusal is an answer
        return True

    def _ask(self, limit_s: float) -> dict[str, Any]:
        counts: dict[str, Any] = send_request(self._home, {"ask": "counts"}, limit_s)
        return counts
