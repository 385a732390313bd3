"""
The lock of a home's server. The server's own process holds it: it is locked exactly as
long as that process lives, also after the process that started it has died.

The file names the server: its ports, written before it is started, and its process id,
which the process itself writes before it becomes the server. While the file is locked
that id is nobody else's. A stop in good order empties it, so that ports which are left
in it are those of a server that was killed.

Only a process that starts a server may lock it, while it holds the home's stack.lock.
"""

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from outlast.contracts.errors import UnavailableError
from outlast.dev.locks import lock
from outlast.dev.ports import Ports

SERVER_LOCK = "server.lock"
# The shell that becomes the server, the file as its $0, writes the id first.
EXEC_SCRIPT = 'echo "$$" >> "$0" && exec "$@"'

NAME_LIMIT_S = 5.0
SERVER_TERM_LIMIT_S = 5.0
SERVER_KILL_LIMIT_S = 5.0
SERVER_LOCK_CHECK_S = 0.02


class LeftServer(NamedTuple):
    """
    A server that was left running.
    """

    pid: int
    port: int


def lock_server(home: Path, ports: Ports) -> int:
    """
    Lock the file for the server that is started next, which inherits the lock.

    :raises UnavailableError: when the home's server runs already, or on a full disk.
    """
    held = lock(home / SERVER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if held is None:
        raise UnavailableError(
            f"a server runs on {home} already, and its state is one file: end that "
            "one first, or choose another OUTLAST_HOME"
        )
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{ports.port} {ports.ui_port}\n".encode(), 0)
    except OSError as error:  # no room on the disk, for one
        os.close(held)
        raise UnavailableError(
            f"{home / SERVER_LOCK} cannot be written: {error}"
        ) from None
    return held


def exec_command(home: Path, command: list[str]) -> list[str]:
    return ["/bin/sh", "-c", EXEC_SCRIPT, str(home / SERVER_LOCK), *command]


def ports_of_left(home: Path) -> Ports | None:
    """
    Read the ports of a server that was killed, or still runs; None after a good stop.
    """
    return _read_lock(home)[0]


def clear_server_lock(home: Path) -> None:
    held = lock(home / SERVER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if held is not None:
        os.ftruncate(held, 0)
        os.close(held)


def end_left_server(home: Path) -> LeftServer | None:
    """
    End the server that a dead owner has left running, politely first; returns which,
    None where none is left.

    :raises UnavailableError: when it does not end.
    """
    if _wait_until_free(home, 0):
        return None
    pid = _pid(home)
    if pid is None:
        return None  # it has ended meanwhile
    ports = ports_of_left(home)
    for number, limit_s in (
        (signal.SIGTERM, SERVER_TERM_LIMIT_S),
        (signal.SIGKILL, SERVER_KILL_LIMIT_S),
    ):
        with contextlib.suppress(ProcessLookupError):
            # It leads its group, and what it may have started holds the lock too.
            os.killpg(pid, number)
        if _wait_until_free(home, limit_s):
            return LeftServer(pid, ports.port if ports else 0)
    raise UnavailableError(
        f"the server that an earlier stack has left running on {home} (process {pid}) "
        f"does not end: kill it (kill -9 {pid}), then start again"
    )


def _pid(home: Path) -> int | None:
    """
    Read who holds the lock, waiting for a process that is about to say it.
    """
    deadline = time.monotonic() + NAME_LIMIT_S
    while (pid := _read_lock(home)[1]) is None:
        if _wait_until_free(home, SERVER_LOCK_CHECK_S):
            return None
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"{home / SERVER_LOCK} is locked by a process that does not name "
                f"itself: find it (fuser {home / SERVER_LOCK}), end it, then start "
                "again"
            )
    return pid


def _wait_until_free(home: Path, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while (held := lock(home / SERVER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(SERVER_LOCK_CHECK_S)
    os.close(held)
    return True


def _read_lock(home: Path) -> tuple[Ports | None, int | None]:
    """
    Read ports and process id; None for what is not there, or not yet.
    """
    try:
        ports, *pid = (home / SERVER_LOCK).read_text().splitlines()
        port, ui_port = map(int, ports.split())
        return Ports(port, ui_port), int(pid[0]) if pid else None
    except (OSError, ValueError):
        return None, None
