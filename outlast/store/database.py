"""
One connection a process to the store, and the two kinds of transaction it makes.

A write transaction is BEGIN IMMEDIATE from its first statement: a deferred one that
reads first and writes later fails under contention however long it waits.
No I/O other than the database's happens inside a transaction.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert

from outlast.contracts.errors import StoreError
from outlast.store import schema

P = ParamSpec("P")
T = TypeVar("T")

# How long a writer waits for the others. Every transaction here is short, so a
# longer wait means a stuck process, which the attempt's own limits end.
BUSY_S = 20.0
# How often it asks. SQLite's own waiting sleeps ever longer, up to 0.1 s, where a
# transaction here takes 0.001 s and an attempt that takes over is waited for.
ASK_S = 0.0005

FULL_TEXT = """
CREATE VIRTUAL TABLE IF NOT EXISTS passages_fts USING fts5(
    library, title, heading, text, tokenize='porter unicode61 remove_diacritics 2'
)
"""


class Store:
    """
    The store at *path*: documents, ledger and large progress, in SQLite.

    Its *id* is made once and tells it from every other store.

    :raises StoreError: when the file cannot be opened or was written by a newer
        release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._durable: bool | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = _engine(path).connect()
            self._migrate()
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            cause = getattr(error, "orig", error)  # the driver's words alone
            raise StoreError(f"the store at {path} cannot be opened: {cause}") from None

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run *act* on the store's own thread, so that the event loop never waits.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: act(*args, **kwargs))

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """
        One consistent view.
        """
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[sa.Connection]:
        """
        One write transaction; *durable* also survives the loss of power.
        """
        with self._lock:
            self._synchronize(durable)
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    def close(self) -> None:
        """
        Give the file back.
        """
        self._thread.shutdown(wait=True)
        with self._lock:
            self._connection.close()
            self._connection.engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        self._connection.execution_options(begin=begin)
        try:
            with self._connection.begin():
                yield self._connection
        except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
            raise StoreError(f"the store at {self.path}: {error.orig}") from error

    def _synchronize(self, durable: bool) -> None:
        if durable is not self._durable:
            level = "FULL" if durable else "NORMAL"
            driver: Any = self._connection.connection.driver_connection
            driver.execute(f"PRAGMA synchronous={level}")
            self._durable = durable

    def _migrate(self) -> None:
        with self.write() as connection:
            schema.metadata.create_all(connection)
            connection.exec_driver_sql(FULL_TEXT)
            for key, value in (("schema", str(schema.SCHEMA)), ("id", uuid4().hex)):
                row = insert(schema.meta).values(key=key, value=value)
                connection.execute(row.on_conflict_do_nothing())
            kept = connection.execute(sa.select(schema.meta)).all()
            meta = {row.key: row.value for row in kept}
            if int(meta["schema"]) < schema.SCHEMA:
                # So far releases only added tables, which are there by now.
                line = sa.update(schema.meta).where(schema.meta.c.key == "schema")
                connection.execute(line.values(value=str(schema.SCHEMA)))
        if int(meta["schema"]) > schema.SCHEMA:
            raise StoreError(
                f"the store at {self.path} has schema {meta['schema']}, this release "
                f"knows {schema.SCHEMA}: use the newer release"
            )
        self.id = meta["id"]


# Shared by all stores of a process and, being memory, by all that are forked from it:
# a zygote compiles the statements for every worker to come.
_COMPILED: dict[Any, Any] = {}


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
        options = connection.get_execution_options()
        if options.get("begin") != "BEGIN IMMEDIATE":
            connection.exec_driver_sql("BEGIN")
            return
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        try:
            _patiently(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")

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


_shared: Store | None = None


def share(store: Store) -> None:
    """
    Make *store* the one that this process's agents use.
    """
    global _shared  # noqa: PLW0603 - one connection a process is the rule here
    _shared = store


def shared() -> Store:
    """
    The store of this process.

    :raises StoreError: when the process was started without one.
    """
    if _shared is None:
        raise StoreError("this process has no store: start agents by worker.py")
    return _shared
