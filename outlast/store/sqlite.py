"""
One file on one host: one connection a process, whose writers take turns.

A write transaction is BEGIN IMMEDIATE from its first statement: a deferred one that
reads first and writes later fails under contention however long it waits.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from outlast.contracts.errors import StoreError
from outlast.store.private import make_database

# How long a writer waits for the others. Every transaction here is short, so a
# longer wait means a stuck process, which the attempt's own limits end.
BUSY_S = 20.0
# How often it asks. SQLite's own waiting sleeps ever longer, up to 0.1 s, where a
# transaction here takes 0.001 s and an attempt that takes over is waited for.
ASK_S = 0.0005

# Shared by all stores of a process and, being memory, by all that are forked from it:
# a zygote compiles the statements for every worker to come.
_COMPILED: dict[Any, Any] = {}


class SqliteDatabase:
    """
    The database in the file at *path*.

    :raises StoreError: when it cannot be opened.
    """

    one_host = True
    threads = 1
    builds_itself = True  # whoever opens the file first brings it up to date

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._lock = threading.RLock()
        self._durable: bool | None = None
        try:
            make_database(path)
            self._connection = _engine(path).connect()
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            cause = getattr(error, "orig", error)  # the driver's words alone
            raise StoreError(f"the store at {path} cannot be opened: {cause}") from None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """
        One consistent view.
        """
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self, durable: bool) -> Iterator[sa.Connection]:
        """
        One write transaction, alone in the file.
        """
        with self._lock:
            self._synchronize(durable)
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """
        The same: whoever writes is alone.
        """
        with self.writing(durable=True) as connection:
            yield connection

    def shrink(self) -> None:
        """
        Move the log into the file and cut it off, unless somebody uses it now.
        """
        with self._lock:
            driver: Any = self._connection.connection.driver_connection
            driver.execute("PRAGMA busy_timeout=0")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                driver.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")

    def close(self) -> None:
        """
        Give the file back.
        """
        with self._lock:
            self._connection.close()
            self._connection.engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        self._connection.execution_options(begin=begin)
        try:
            with self._connection.begin():
                yield self._connection
        except (sa.exc.DatabaseError, sqlite3.Error) as error:
            cause = getattr(error, "orig", error)
            raise StoreError(f"the store at {self.place}: {cause}") from error

    def _synchronize(self, durable: bool) -> None:
        if durable is not self._durable:
            level = "FULL" if durable else "NORMAL"
            driver: Any = self._connection.connection.driver_connection
            driver.execute(f"PRAGMA synchronous={level}")
            self._durable = durable


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": BUSY_S},
        poolclass=sa.pool.StaticPool,
        execution_options={"compiled_cache": _COMPILED},
    )

    @event.listens_for(engine, "connect")
    def connected(driver: sqlite3.Connection, _: object) -> None:
        # The driver must not open transactions of its own: ours say how they begin.
        driver.isolation_level = None
        _use_wal(driver)
        driver.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # By the driver itself: a tenth of what it costs through the expressions' layer.
        driver: Any = connection.connection.driver_connection
        options = connection.get_execution_options()
        if options.get("begin") != "BEGIN IMMEDIATE":
            driver.execute("BEGIN")
            return
        driver.execute("PRAGMA busy_timeout=0")
        try:
            _patiently(lambda: driver.execute("BEGIN IMMEDIATE"))
        finally:
            driver.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")

    return engine


def _use_wal(driver: sqlite3.Connection) -> None:
    """
    Turn the log on; unlike everything else this does not wait for other processes.
    """
    _patiently(lambda: driver.execute("PRAGMA journal_mode=WAL"))


def _patiently(act: Callable[[], object]) -> None:
    """
    Do *act* as soon as no other process is in the way.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            act()
        except (sqlite3.OperationalError, sa.exc.OperationalError) as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(ASK_S)
        else:
            return
