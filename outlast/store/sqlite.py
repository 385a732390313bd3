"""
One file on one host: one connection a process, whose writers take turns.

A write transaction is BEGIN IMMEDIATE from its first statement: a deferred one that
reads first and writes later fails under contention however long it waits.
"""

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from outlast.store.backend import Database
from outlast.store.private import make_database
from outlast.store.retry import retry
from outlast.store.sqlite_file import StoreFile, breaks_connection, translate_error

# How long a writer waits for the others. Every transaction here is short, so a
# longer wait means a stuck process, which the attempt's own limits end.
SQLITE_BUSY_S = 20.0
# How often it asks. SQLite's own waiting sleeps ever longer, up to 0.1 s, where a
# transaction here takes 0.001 s and a task whose process died waits.
SQLITE_RETRY_S = 0.0005


class SqliteDatabase(Database):
    """
    The database in the file at *path*.

    :raises StoreError: when it cannot be opened, StoreUnavailableError when not now.
    """

    one_host = True
    threads = 1
    auto_migrate = True  # the first to open the file migrates it
    clock = staticmethod(time.time)  # of the one host

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._lock = threading.RLock()
        self._durable: bool | None = None
        self._broken = False  # the connection, by its last error
        self._path = path
        try:
            make_database(path)
            self._connection = _engine(path).connect()
            self._file = StoreFile(path)
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            raise translate_error(self.place, _cause(error)) from None

    def mark_id(self, id_: str) -> None:
        """
        Write the id in short among the file's first bytes, which can be read without
        SQLite, and past its log: see `WatchedFile`.
        """
        with self._lock:
            mark = zlib.crc32(id_.encode()) >> 1  # it is signed there
            self._driver.execute(f"PRAGMA application_id={mark}")
        self.shrink()

    def check(self) -> None:
        self._file.check_id(self._id)

    @contextmanager
    def reading(self, wait_s: float = 0.0) -> Iterator[sa.Connection]:
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self, durable: bool, wait_s: float = 0.0) -> Iterator[sa.Connection]:
        """
        One write transaction, alone in the file. Others are waited for SQLITE_BUSY_S.
        """
        with self._lock, self._transaction("BEGIN IMMEDIATE", durable) as connection:
            yield connection

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        return self.writing(durable=True)  # any writer is alone

    def shrink(self) -> None:
        """
        Move the log into the file and cut it off, unless somebody uses it now.
        """
        with self._lock, _not_waiting(self._driver):
            self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._connection.engine.dispose()

    @contextmanager
    def _transaction(
        self, begin: str, durable: bool | None = None
    ) -> Iterator[sa.Connection]:
        try:
            if self._broken:
                self._reopen()
            if durable is not None:
                self._synchronize(durable)
            self._connection.execution_options(begin=begin)
            with self._connection.begin():
                yield self._connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            cause = _cause(error)
            self._broken = breaks_connection(cause)
            raise translate_error(self.place, cause) from error
        # What was committed to a file that is gone by now is not done.
        self._file.check()

    def _reopen(self) -> None:
        """
        Open the same file anew: one that could not be written when it was opened, or
        whose disk was away, is never written by its connection.
        """
        self._file.check()
        self._connection.close()
        self._connection.engine.dispose()
        self._connection = _engine(self._path, "rw").connect()
        self._file.on_reopened()
        self._durable, self._broken = None, False

    @property
    def _driver(self) -> sqlite3.Connection:
        driver: Any = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return driver

    def _synchronize(self, durable: bool) -> None:
        if durable is not self._durable:
            level = "FULL" if durable else "NORMAL"
            self._driver.execute(f"PRAGMA synchronous={level}")
            self._durable = durable


def _cause(error: BaseException) -> BaseException:
    found: BaseException = getattr(error, "orig", None) or error
    return found


@cache
def _compiled() -> dict[Any, Any]:
    """
    The compiled statements of all stores of a process and, being memory, of all that
    are forked from it: a fork server compiles for every worker to come.
    """
    return {}


@cache
def _dialect() -> sa.Dialect:
    """
    The one dialect of these statements: those of another one are compiled anew.
    """
    engine = sa.create_engine("sqlite://")
    engine.connect().close()  # which initializes it
    engine.dispose()
    return engine.dialect


@contextmanager
def _not_waiting(driver: sqlite3.Connection) -> Iterator[None]:
    driver.execute("PRAGMA busy_timeout=0")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout={int(SQLITE_BUSY_S * 1000)}")


def _engine(path: Path, mode: str = "rwc") -> sa.Engine:
    def connect() -> sqlite3.Connection:
        where = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(
            where, uri=True, check_same_thread=False, timeout=SQLITE_BUSY_S
        )

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=sa.pool.StaticPool,
        execution_options={"compiled_cache": _compiled()},
    )
    engine.dialect = _dialect()

    @event.listens_for(engine, "connect")
    def connected(driver: sqlite3.Connection, _: object) -> None:
        # The driver must not open transactions of its own: ours say how they begin.
        driver.isolation_level = None
        # Unlike everything else this does not wait for other processes.
        _retry_while_busy(lambda: driver.execute("PRAGMA journal_mode=WAL"))
        driver.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        # By the driver itself: a tenth of what it costs through the expressions' layer.
        driver: Any = connection.connection.driver_connection
        options = connection.get_execution_options()
        if options.get("begin") != "BEGIN IMMEDIATE":
            driver.execute("BEGIN")
            return
        with _not_waiting(driver):
            _retry_while_busy(lambda: driver.execute("BEGIN IMMEDIATE"))

    return engine


def _retry_while_busy(act: Callable[[], object]) -> None:
    retry(act, _is_busy, SQLITE_BUSY_S, SQLITE_RETRY_S)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
