"""
Whose the home is: nobody else may write it, who would decide what our locks, logs and
sockets are.
"""

import os
import pwd
import shlex
import stat
from pathlib import Path

from outlast.contracts.errors import BadInputError
from outlast.store.private import OTHERS_WRITE

# SQLite opens no file whose path is longer than 504 bytes; temporal.db is our longest.
MAX_HOME_BYTES = 490
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


def require_private(home: Path) -> None:
    """
    Refuse a home, where there is one, that others can write.

    :raises BadInputError: with the command that mends it.
    """
    try:
        named, found = home.lstat(), home.stat()
    except OSError:
        return  # it is made for us alone, or cannot be used at all
    if named.st_uid not in (os.geteuid(), 0):
        found = named  # a link of somebody else's, who can lead us anywhere
    here, mode = shlex.quote(str(home.absolute())), stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        raise BadInputError(
            f"OUTLAST_HOME {here} belongs to {_user_name(found.st_uid)}, who can "
            f"change all that lies in it: sudo chown -R {_user_name(os.geteuid())} "
            f"{here}, or set OUTLAST_HOME to a folder of your own"
        )
    if mode & OTHERS_WRITE:
        raise BadInputError(
            f"OUTLAST_HOME {here} can be written by others (mode {mode:04o}), who "
            f"could change all that lies in it: chmod go-w {here}"
        )


def require_short(home: Path) -> None:
    """
    :raises BadInputError: when the home is too far down for the files of SQLite in it.
    """
    length = len(os.fsencode(home.resolve()))
    if length > MAX_HOME_BYTES:
        raise BadInputError(
            f"OUTLAST_HOME has a path of {length} bytes, and SQLite opens no file in a "
            f"folder of more than {MAX_HOME_BYTES}: set OUTLAST_HOME to a shorter one"
        )


def why_readable(home: Path) -> str | None:
    """
    Say that others can list the home, where there is one and they can.
    """
    try:
        mode = stat.S_IMODE(home.stat().st_mode)
    except OSError:
        return None
    if not mode & READABLE_BY_OTHERS:
        return None
    here = shlex.quote(str(home))
    return f"others can read OUTLAST_HOME {here} (mode {mode:04o}): chmod 700 {here}"


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
