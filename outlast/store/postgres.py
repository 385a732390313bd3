"""
PostgreSQL, for many hosts: a few connections a process, and row locks.

Every rule of the ledger is one statement that holds a row until its transaction ends,
so READ COMMITTED is enough: the second of two waits, then sees what the first
wrote. A reader has one snapshot.

A server that is away is waited for before a transaction begins, where nothing has
happened yet; one that goes away within a transaction ends it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

from outlast.contracts.errors import BadInputError, StoreError, StoreUnavailableError
from outlast.store.backend import NO_KNOWN_STORES, Database
from outlast.store.outages import (
    REFUSED_STATEMENT,
    UNKNOWN_OUTAGE,
    Outage,
    of_refused_connection,
    of_sqlstate,
    store_error,
)
from outlast.store.retry import retry
from outlast.store.server_clock import ServerClock

# How often a server that is away is asked again before a transaction begins.
POSTGRES_RETRY_S = 0.1

# Transactions that one process has open at once.
POSTGRES_CONNECTIONS = 4

# A process that froze inside a transaction, or whose host is gone, must not keep its
# rows from the next attempt: the server ends it after so long.
UNRESPONSIVE_S = 5.0
# How long a statement may take, and wait for a row that somebody holds.
STATEMENT_LIMIT_S = 60.0
LOCK_WAIT_S = 20.0

SERVER_OPTIONS = {
    "idle_in_transaction_session_timeout": int(UNRESPONSIVE_S * 1000),
    "statement_timeout": int(STATEMENT_LIMIT_S * 1000),
    "lock_timeout": int(LOCK_WAIT_S * 1000),
    "tcp_keepalives_idle": 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": int(UNRESPONSIVE_S * 1000),
}
# The same for the other direction: a server whose host is gone.
CLIENT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    # Whatever the database, role or environment says: names and texts come as text.
    "client_encoding": "utf8",
}

SERVER_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"
# A connection that cannot write leads to a primary of before: another one may not.
READ_ONLY = "25006"
STORE_ID = "SELECT value FROM meta WHERE key = 'id'"
MIGRATION_LOCK = 0x0071A57  # the advisory lock of migrations


class PostgresDatabase(Database):
    """
    The database at *url*, for instance `postgresql://me:secret@db/outlast`.

    :param known: ids of stores by their places: another one there is refused.
    :raises BadInputError: when *url* is none of PostgreSQL's, or its database cannot
        hold every text.
    :raises StoreLostError: when the server refuses us.
    :raises StoreUnavailableError: when no server answers.
    """

    one_host = False
    threads = POSTGRES_CONNECTIONS
    clock: ServerClock
    auto_migrate = False  # other hosts may run an older release still

    def __init__(self, url: str, known: Mapping[str, str] = NO_KNOWN_STORES) -> None:
        parsed = _parse(url)
        shown = parsed.set(drivername="postgresql")
        self.place = shown.render_as_string(hide_password=True)
        self._id = known.get(self.place, "")
        self._engine = _engine(parsed)
        event.listen(self._engine, "connect", self._connected)
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.clock = ServerClock()
        with self._connect(self._engine, 0.0) as connection:
            self._check_clock(connection)
            self._require_utf8(connection)

    def check(self) -> None:
        with self.reading(0.0) as connection:
            self._require_same_store(connection.exec_driver_sql(STORE_ID).scalar())

    @contextmanager
    def reading(self, wait_s: float = 0.0) -> Iterator[sa.Connection]:
        with self._transaction(self._reading, wait_s) as connection:
            yield connection

    @contextmanager
    def writing(self, durable: bool, wait_s: float = 0.0) -> Iterator[sa.Connection]:
        with self._transaction(self._engine, wait_s) as connection:
            if not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """
        A transaction with the tables to itself; other migrations wait.
        """
        with self._transaction(self._engine, 0.0) as connection:
            for option in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {option} TO 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine, wait_s: float) -> Iterator[sa.Connection]:
        connection = self._connect(engine, wait_s)
        try:
            with connection, connection.begin():
                if self.clock.is_due:
                    self._check_clock(connection)
                yield connection
        except sa.exc.DBAPIError as error:
            if _sqlstate(error.orig) == READ_ONLY:
                engine.dispose()
            raise self._translate(error) from error

    def _check_clock(self, connection: sa.Connection) -> None:
        self.clock.check(lambda: connection.exec_driver_sql(SERVER_TIME).scalar_one())

    def _connect(self, engine: sa.Engine, wait_s: float) -> sa.Connection:
        """
        Get a connection that answers, waiting *wait_s* for the server to be back.
        """

        def connect() -> sa.Connection:
            try:
                return engine.connect()
            except (sa.exc.DBAPIError, sa.exc.TimeoutError, StoreError) as error:
                raise self._translate(error) from None

        return retry(connect, _is_unavailable, wait_s, POSTGRES_RETRY_S)

    def _connected(self, driver: Any, _: object) -> None:
        """
        Make sure that each connection leads to the same store: an address may lead to
        another database from one moment to the next, an open connection never does.
        """
        if not self._id:
            return
        try:
            with driver.cursor() as cursor:
                found = cursor.execute(STORE_ID).fetchone()
            driver.rollback()
            self._require_same_store(found[0] if found else None)
        except (psycopg.Error, StoreError) as error:
            with suppress(psycopg.Error):
                driver.close()
            raise self._translate(error) from None

    def _require_utf8(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        encoding = driver.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise BadInputError(
                f"the database at {self.place} keeps its text as {encoding}, which "
                "cannot hold what agents write: make another one with CREATE DATABASE "
                "... ENCODING 'UTF8' TEMPLATE template0"
            )

    def _require_same_store(self, found: object) -> None:
        if found != self._id:
            raise StoreUnavailableError(
                f"the store at {self.place} is another one now: lead to the one "
                "before, or, to give up its missions, use `outlast migrate`",
                maybe_written=True,
            )

    def _translate(self, error: Exception) -> StoreError:
        """
        Put *error* in a sentence; its kind says whether it passes.
        """
        if isinstance(error, StoreError):
            return error
        cause = getattr(error, "orig", None) or error
        return store_error(self.place, str(cause), _outage(cause), first=not self._id)


def _is_unavailable(error: Exception) -> bool:
    return isinstance(error, StoreUnavailableError)


def _outage(error: BaseException) -> Outage:
    state = _sqlstate(error)
    if state is not None:
        return of_sqlstate(state)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # Before the server gives states there is only a failed connection.
        return of_refused_connection(str(error))
    # What the driver itself cannot send; anything else is no error of the driver's,
    # as that all connections are in use.
    return REFUSED_STATEMENT if isinstance(error, psycopg.Error) else UNKNOWN_OUTAGE


def _sqlstate(error: BaseException | None) -> str | None:
    state: str | None = getattr(error, "sqlstate", None)
    return state


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise BadInputError("OUTLAST_DATABASE_URL is no URL") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise BadInputError(
            f"OUTLAST_DATABASE_URL names {parsed.get_backend_name()!r}: only "
            "postgresql://USER:PASSWORD@HOST/DATABASE is known"
        )
    return parsed.set(drivername="postgresql+psycopg")


def _engine(url: sa.URL) -> sa.Engine:
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_OPTIONS.items())
    return sa.create_engine(
        url,
        connect_args={**CLIENT_OPTIONS, "options": options},
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,  # a server that was restarted is noticed before we begin
        pool_timeout=LOCK_WAIT_S,
    )
