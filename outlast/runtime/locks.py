"""
The home and its two locks, and those of ports. The kernel drops a lock when its holder
dies, so that nothing stale is ever left behind.

    stack.lock  held by whoever runs the embedded stack on this home
    users.lock  shared by everyone who uses it
    a port's    held by whoever runs an embedded server there, on any home of this user
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from outlast.contracts.errors import UnavailableError
from outlast.runtime.settings import Settings

STACK = "stack.lock"
USERS = "users.lock"
LOOK_S = 0.01


def home_of(settings: Settings) -> Path:
    """
    Make the home, readable by its owner only.
    """
    home = settings.home.resolve()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnavailableError(f"OUTLAST_HOME cannot be made: {error}") from None
    return home


@contextlib.contextmanager
def held(path: Path, limit_s: float = 0.0) -> Iterator[bool]:
    """
    Hold the lock at *path* if nobody else does, or once it is free within *limit_s*;
    yields whether we do.
    """
    deadline = time.monotonic() + limit_s
    mine = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    while mine is None and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        mine = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield mine is not None
    finally:
        if mine is not None:
            os.close(mine)


def lock(path: Path, how: int) -> int | None:
    """
    Lock the file at *path*; the open file is the lock, None when others hold it.
    """
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def lock_port(port: int) -> int | None:
    """
    Lock *port* of this machine among all of this user's servers, as `lock` does.

    :raises UnavailableError: when there is no place for locks.
    """
    name = f"outlast-{os.getuid()}-port-{port}.lock"
    try:
        return lock(Path(tempfile.gettempdir()) / name, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UnavailableError(f"port {port} cannot be claimed: {error}") from None
