"""
The lock of a home's server. The server's own process holds it: it is locked exactly as
long as that process lives, whoever started it and whatever became of them.

The file names the server: its ports, written before it is started, and its process id,
which the process itself writes before it becomes the server. While the file is locked
that id is nobody else's. A stop in good order empties it, so that ports which are left
in it are those of a server that was killed.

Only who starts a server may lock it, with the home's stack.lock in hand.
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

SERVER = "server.lock"
# The shell that becomes the server, the file as its $0, writes the id first.
BECOME = 'echo "$$" >> "$0" && exec "$@"'

NAME_LIMIT_S = 5.0
TERM_LIMIT_S = 5.0
KILL_LIMIT_S = 5.0
LOOK_S = 0.02


class Ports(NamedTuple):
    """
    Where a server listens.
    """

    port: int
    ui_port: int


class Left(NamedTuple):
    """
    A server that was left running.
    """

    pid: int
    port: int


def hold(home: Path, ports: Ports) -> int:
    """
    Lock the file for the server that is started next, which inherits the lock.

    :raises UnavailableError: when the home's server runs already, or on a full disk.
    """
    held = lock(home / SERVER, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        raise UnavailableError(f"{home / SERVER} cannot be written: {error}") from None
    return held


def becoming(home: Path, command: list[str]) -> list[str]:
    """
    Make the command of a process that names itself in the file, then is *command*.
    """
    return ["/bin/sh", "-c", BECOME, str(home / SERVER), *command]


def left_ports(home: Path) -> Ports | None:
    """
    Read the ports of a server that was killed, or still runs; None after a good stop.
    """
    return _named(home)[0]


def clear(home: Path) -> None:
    """
    Note that the server was stopped in good order.
    """
    held = lock(home / SERVER, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if held is not None:
        os.ftruncate(held, 0)
        os.close(held)


def end_left(home: Path) -> Left | None:
    """
    End the server that a dead owner has left running, politely first; returns which,
    None where none is left.

    :raises UnavailableError: when it does not end.
    """
    if _freed(home, 0):
        return None
    pid = _pid(home)
    if pid is None:
        return None  # it has ended meanwhile
    ports = left_ports(home)
    for number, limit_s in (
        (signal.SIGTERM, TERM_LIMIT_S),
        (signal.SIGKILL, KILL_LIMIT_S),
    ):
        with contextlib.suppress(ProcessLookupError):
            # It leads its group, and what it may have started holds the lock too.
            os.killpg(pid, number)
        if _freed(home, limit_s):
            return Left(pid, ports.port if ports else 0)
    raise UnavailableError(
        f"the server that an earlier stack has left running on {home} (process {pid}) "
        f"does not end: kill it (kill -9 {pid}), then start again"
    )


def _pid(home: Path) -> int | None:
    """
    Read who holds the lock, waiting for a process that is about to say it.
    """
    deadline = time.monotonic() + NAME_LIMIT_S
    while (pid := _named(home)[1]) is None:
        if _freed(home, LOOK_S):
            return None
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"{home / SERVER} is locked by a process that does not name itself: "
                f"find it (fuser {home / SERVER}), end it, then start again"
            )
    return pid


def _freed(home: Path, limit_s: float) -> bool:
    """
    Say whether nobody holds the lock, within *limit_s*.
    """
    deadline = time.monotonic() + limit_s
    while (held := lock(home / SERVER, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)
    os.close(held)
    return True


def _named(home: Path) -> tuple[Ports | None, int | None]:
    """
    Read ports and process id; None for what is not there, or not yet.
    """
    try:
        ports, *pid = (home / SERVER).read_text().splitlines()
        port, ui_port = map(int, ports.split())
        return Ports(port, ui_port), int(pid[0]) if pid else None
    except (OSError, ValueError):
        return None, None
