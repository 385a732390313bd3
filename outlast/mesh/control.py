"""
How others on this machine ask a peer: one JSON line each way over a socket in its home.

The socket is its user's alone.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.contracts.sizes import MESH_MISSION_BYTES

Question = dict[str, Any]
Answer = Callable[[Question], Awaitable[Any]]

# What a socket's path may have, everywhere.
PATH_CHARS = 100
ASK_LIMIT_S = 10.0


def socket_of(home: Path) -> Path:
    """
    Say where the socket of the peer in *home* lies: there, or, where that is too far
    down, in a folder of the user's that is named after it.
    """
    path = home.resolve() / "mesh" / "peer.sock"
    if len(os.fsencode(path)) <= PATH_CHARS:
        return path
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"outlast-{os.getuid()}" / f"{name}.sock"


class Control:
    """
    Answers whoever asks, until closed.
    """

    def __init__(self, home: Path, answer: Answer) -> None:
        self._path = socket_of(home)
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """
        Begin to listen.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, self._path, limit=2 * MESH_MISSION_BYTES
        )
        self._path.chmod(0o600)

    def close(self) -> None:
        """
        Listen no longer.
        """
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            told = await self._told(await reader.readline())
            writer.write(json.dumps(told).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _told(self, line: bytes) -> dict[str, Any]:
        try:
            return {"told": await self._answer(json.loads(line))}
        except OutlastError as error:
            return {"refused": str(error)}


def ask(home: Path, question: Question, limit_s: float = ASK_LIMIT_S) -> Any:
    """
    Ask the peer in *home*.

    :raises BadInputError: with what it refuses, in its own words.
    :raises UnavailableError: when it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(limit_s)
            line.connect(str(socket_of(home)))
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answer:
                told = json.loads(answer.readline())
    except (OSError, ValueError):
        raise UnavailableError(
            f"no peer answers in {home}: start one with worker.py --peer NAME"
        ) from None
    if "refused" in told:
        raise BadInputError(told["refused"])
    return told["told"]
