"""
How commands on this machine ask a peer: one JSON line each way over a socket in its
home, which is its user's alone.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.contracts.sizes import MESH_MISSION_BYTES
from outlast.store.private import FILE_MODE, require_own_folder

ControlHandler = Callable[[Any], Awaitable[Any]]

# Bytes that the path of a socket may have on every system.
MAX_SOCKET_PATH = 100
OPEN_FILES = "/proc/self/fd"
CONTROL_LIMIT_S = 10.0


def socket_path(home: Path) -> Path:
    return home.resolve() / "mesh" / "peer.sock"


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """
    Name the socket at *path* as the kernel takes it. A path that is too long is named
    by its folder, which stays open meanwhile.

    :raises BadInputError: where the system has no such names.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not Path(f"{OPEN_FILES}/{folder}").exists():
            raise BadInputError(
                f"{path} is longer than the {MAX_SOCKET_PATH} bytes that the name of a "
                "socket may have here: choose a shorter OUTLAST_HOME"
            )
        yield f"{OPEN_FILES}/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """
    Answers every request of this user, until closed.
    """

    def __init__(self, home: Path, answer: ControlHandler) -> None:
        self._path = socket_path(home)
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        require_own_folder(self._path.parent)
        self._path.unlink(missing_ok=True)
        with short_name(self._path) as name:
            made = socket.socket(socket.AF_UNIX)
            made.bind(name)
        self._path.chmod(FILE_MODE)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=made, limit=2 * MESH_MISSION_BYTES
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            reply = await self._reply(await reader.readline())
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            return {"result": await self._answer(json.loads(line))}
        except OutlastError as error:
            return {"error": str(error)}


def send_request(
    home: Path, request: dict[str, Any], limit_s: float = CONTROL_LIMIT_S
) -> Any:
    """
    Ask the peer in *home*.

    :raises BadInputError: with what it refuses, in its own words.
    :raises UnavailableError: when it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(limit_s)
            with short_name(socket_path(home)) as name:
                line.connect(name)
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answer:
                reply = json.loads(answer.readline())
    except (OSError, ValueError):
        raise UnavailableError(
            f"no peer answers in {home}: start one with outlast-worker --peer NAME"
        ) from None
    if "error" in reply:
        raise BadInputError(reply["error"])
    return reply["result"]
