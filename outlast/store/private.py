"""
Files and folders for their owner alone, whatever the umask is; links are not followed.

What is opened here may be a lock, a log or a draft: a link that somebody else has put
in its place would have us truncate or lock a file of their choice.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS_ACCESS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# What SQLite writes beside a database.
DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal")


def make_folder(path: Path) -> None:
    """
    Make the folder and what is missing above it; `mkdir(parents=True)` would make the
    latter as the umask says.

    :raises OSError: when it cannot be made, or when a file is there.
    """
    missing = [each for each in (path, *path.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(mode=FOLDER_MODE, exist_ok=True)


def require_own_folder(path: Path) -> Path:
    """
    Make the folder, or close one of ours to others.

    :raises OSError: when it is a link, or somebody else's.
    """
    make_folder(path)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is a link, or another user's")
    if found.st_mode & OTHERS_ACCESS:
        path.chmod(FOLDER_MODE)
    return path


def open_private(path: Path, how: int) -> int:
    """
    Open the file at *path*, made where it is missing; returns its descriptor.

    :raises OSError: when it is a link, no file, or somebody else's.
    """
    how |= os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, how, FILE_MODE)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(file)
        raise PermissionError(f"{path} is no file of ours")
    if found.st_mode & OTHERS_ACCESS:
        os.fchmod(file, FILE_MODE)
    return file


def replace_private(path: Path, text: str) -> None:
    """
    Put *text* at *path*, whole or not at all.
    """
    draft = path.with_suffix(".new")
    with os.fdopen(open_private(draft, os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write(text)
    draft.replace(path)


def make_database(path: Path) -> None:
    """
    Make the file of a database before SQLite does, which would ask the umask.
    """
    make_folder(path.parent)
    with suppress(FileExistsError):
        how = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(path, how, FILE_MODE))
    close_to_others(path)


def close_to_others(path: Path) -> None:
    """
    Take the database at *path* and what lies beside it away from others. By its name:
    to close a descriptor of it would drop the locks that SQLite has on it.
    """
    for each in (Path(f"{path}{ending}") for ending in DATABASE_SUFFIXES):
        with suppress(FileNotFoundError):
            found = each.stat()
            if found.st_mode & OTHERS_ACCESS and found.st_uid == os.geteuid():
                each.chmod(FILE_MODE)
