"""
The file of a store: the one that was opened, or not any more.

A file can be deleted or replaced under an open connection, which would go on writing to
what nobody will ever read.
"""

import errno
import os
import sqlite3
from pathlib import Path

from outlast.contracts.errors import StoreError, StoreLostError
from outlast.store.outages import Outage, OutageAction, of_errno, of_sqlite, store_error

FileIdentity = tuple[int, int]  # device and inode

PUT_BACK = "put it back, then start the fleet again"


class StoreFile:
    """
    The file at *path* with its log, as they are now.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._log_path = f"{path}-wal"
        self._file = _file_identity(self._path)
        self._log: FileIdentity | None = None

    def check(self) -> None:
        """
        Make sure that both are still where they were opened: two calls of stat, after
        every transaction.

        :raises StoreLostError: when they are not.
        """
        try:
            if _file_identity(self._path) != self._file:
                raise self._lost_error("has been replaced by another file")
            log = _file_identity(self._log_path)
        except FileNotFoundError as error:
            what = "" if error.filename == self._path else "'s log (-wal)"
            raise self._lost_error("has been deleted or moved", what) from None
        except OSError as error:
            raise translate_error(self._path, error) from error
        if self._log is None:
            self._log = log
        elif self._log != log:
            raise self._lost_error("has been replaced by another file", "'s log (-wal)")

    def on_reopened(self) -> None:
        """
        Take the log as it is by now: who is the last one to close it removes it.
        """
        self._log = None

    def check_id(self, id_: str) -> None:
        """
        Read the id with fresh eyes: a connection that is open has its pages in memory,
        though others may have been written over the file.

        :raises StoreLostError: when it is not *id_*.
        """
        self.check()
        where = Path(self._path).absolute().as_uri()
        try:
            fresh = sqlite3.connect(f"{where}?mode=rw", uri=True, timeout=1.0)
            try:
                query = "SELECT value FROM meta WHERE key = 'id'"
                found = fresh.execute(query).fetchone()
            finally:
                fresh.close()
        except sqlite3.Error as error:
            raise translate_error(self._path, error) from error
        if found is None or found[0] != id_:
            raise self._lost_error("has been overwritten with another store")

    def _lost_error(self, how: str, what: str = "") -> StoreLostError:
        return StoreLostError(
            f"the store at {self._path}{what} {how} while it was in use: {PUT_BACK}"
        )


def translate_error(place: str, error: BaseException) -> StoreError:
    return store_error(place, str(error), outage_of(error))


def outage_of(error: BaseException) -> Outage:
    if isinstance(error, PermissionError):
        return of_errno(errno.EACCES)
    if isinstance(error, OSError):
        return of_errno(error.errno)
    return of_sqlite(getattr(error, "sqlite_errorcode", None), str(error))


def breaks_connection(error: BaseException) -> bool:
    """
    Say whether the file is to be opened anew before it is tried again: not where
    somebody else was at work, or there was no room.
    """
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    whole = (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
    )
    return code not in whole and outage_of(error).action is OutageAction.WAIT


def _file_identity(path: str) -> FileIdentity:
    found = os.stat(path)
    return found.st_dev, found.st_ino
