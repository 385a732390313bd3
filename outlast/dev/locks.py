"""
The home and its two locks, and those of ports. The kernel drops a lock when its holder
dies, so that nothing stale is ever left behind.

    stack.lock  held by the process that runs the embedded stack on this home
    users.lock  shared by all processes that use it
    a port's    held by the process that runs an embedded server there, on any home of
                this user

All lie where nobody else can write: in /tmp others could hold our locks, or put links
in their place.
"""

import contextlib
import fcntl
import os
import pwd
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from outlast.contracts.errors import UnavailableError
from outlast.process.home import require_private
from outlast.settings import Settings, settings
from outlast.store.private import (
    OTHERS_WRITE,
    make_folder,
    open_private,
    require_own_folder,
)

STACK_LOCK = "stack.lock"
USERS_LOCK = "users.lock"
# In the folder that the list of users names, whatever the environment says: all homes
# of a user share the locks of ports.
STATE_FOLDER = Path(".local", "state", "outlast")
LOCK_CHECK_S = 0.01


def ensure_home(chosen: Settings) -> Path:
    """
    Make the home, for its owner only.

    :raises UnavailableError: when it cannot be made.
    :raises BadInputError: when others can write it.
    """
    home = chosen.home.resolve()
    try:
        make_folder(home)
    except OSError as error:
        raise UnavailableError(
            f"OUTLAST_HOME cannot be made: {error}; name another folder"
        ) from None
    require_private(home)
    return home


@contextlib.contextmanager
def locked(path: Path, limit_s: float = 0.0) -> Iterator[bool]:
    """
    Hold the lock at *path* if nobody else does, or once it is free within *limit_s*;
    yields whether we do.
    """
    deadline = time.monotonic() + limit_s
    mine = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    while mine is None and time.monotonic() < deadline:
        time.sleep(LOCK_CHECK_S)
        mine = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield mine is not None
    finally:
        if mine is not None:
            os.close(mine)


def lock(path: Path, how: int) -> int | None:
    """
    Lock the file at *path*; the open file is the lock, None when others hold it.

    :raises UnavailableError: when it cannot be opened, or is a link.
    """
    try:
        file = open_private(path, os.O_RDWR)
    except OSError as error:
        raise UnavailableError(f"the lock {path} cannot be used: {error}") from None
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
    # By the machine's name: some share their users' folders with others.
    name = f"{socket.gethostname()}-port-{port}.lock"
    return lock(_state_folder() / name, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _state_folder() -> Path:
    """
    Find the folder of this user's locks; the home, where they have no folder of their
    own that nobody else can write, as in a container.
    """
    with contextlib.suppress(KeyError, OSError):
        own = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        found = own.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & OTHERS_WRITE:
            return require_own_folder(own / STATE_FOLDER)
    return ensure_home(settings())
