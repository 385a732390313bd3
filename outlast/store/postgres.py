"""
PostgreSQL, for many hosts: a few connections a process, and row locks.

Every rule of the ledger is one statement that holds a row until its transaction ends,
so READ COMMITTED is enough: whoever comes second waits, then sees what the first
wrote. A reader has one snapshot.

A server that is away is waited for before a transaction begins, where nothing has
happened yet; one that goes away within a transaction ends it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from outlast.contracts.errors import BadInputError, StoreAwayError, StoreError

# How long a transaction waits for a server that is away: a restart, a fail-over. Past
# it the attempt ends and Temporal tries it again.
AWAY_S = 30.0
ASK_S = 0.1

# Transactions that one process has open at once.
CONNECTIONS = 4

# A process that froze inside a transaction, or whose host is gone, must not keep its
# rows from the attempt that takes over: the server ends it after so long.
FROZEN_S = 5.0
# How long a statement may take, and wait for a row that somebody holds.
STATEMENT_S = 60.0
LOCK_S = 20.0

SERVER_OPTIONS = {
    "idle_in_transaction_session_timeout": int(FROZEN_S * 1000),
    "statement_timeout": int(STATEMENT_S * 1000),
    "lock_timeout": int(LOCK_S * 1000),
    "tcp_keepalives_idle": 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": int(FROZEN_S * 1000),
}
# The same for the other direction: a server whose host is gone.
CLIENT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}

DEADLOCK = "40P01"  # the server chose us to give way
MIGRATING = 0x0071A57  # the advisory lock of whoever changes the tables


class PostgresDatabase:
    """
    The database at *url*, for instance `postgresql://me:secret@db/outlast`.

    :raises BadInputError: when *url* is none of PostgreSQL's.
    :raises StoreError: when the server refuses us.
    :raises StoreAwayError: when no server answers.
    """

    one_host = False
    threads = CONNECTIONS
    builds_itself = False  # other hosts may run an older release still

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        shown = parsed.set(drivername="postgresql")
        self.place = shown.render_as_string(hide_password=True)
        self._engine = _engine(parsed)
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._connect(self._engine, limit_s=0).close()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """
        One consistent view.
        """
        with self._transaction(self._reading) as connection:
            yield connection

    @contextmanager
    def writing(self, durable: bool) -> Iterator[sa.Connection]:
        """
        One write transaction; one that is not *durable* may be lost with the server.
        """
        with self._transaction(self._engine) as connection:
            if not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """
        A transaction with the tables to itself; other migrations wait.
        """
        with self._transaction(self._engine) as connection:
            for option in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {option} TO 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))
            yield connection

    def shrink(self) -> None:
        """
        Do nothing: the server sees to its files itself.
        """

    def close(self) -> None:
        """
        Give the connections back.
        """
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        connection = self._connect(engine, AWAY_S)
        try:
            with connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            raise self._told(error) from error

    def _connect(self, engine: sa.Engine, limit_s: float) -> sa.Connection:
        """
        Get a connection that answers, waiting *limit_s* for the server to be back.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return engine.connect()
            except sa.exc.DBAPIError as error:
                told = self._told(error)
                if not isinstance(told, StoreAwayError) or time.monotonic() > deadline:
                    raise told from None
                time.sleep(ASK_S)

    def _told(self, error: sa.exc.DBAPIError) -> StoreError:
        """
        Put *error* in a sentence: whether it passes by waiting decides its kind.
        """
        first = str(error.orig).strip().splitlines() or ["it said nothing"]
        sentence = f"the store at {self.place}: {first[0]}"
        return StoreAwayError(sentence) if _passes(error) else StoreError(sentence)


def _passes(error: sa.exc.DBAPIError) -> bool:
    """
    Tell a server that is away, starting or stopping, or a deadlock, from a refusal.
    """
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # Before the server gives states there is only a failed connection; a wrong
        # password or name is told in words.
        refused = ("authentication failed", "does not exist", "no pg_hba.conf entry")
        return isinstance(error, sa.exc.OperationalError) and not any(
            words in str(error.orig) for words in refused
        )
    # Connection exceptions, too many of them, and an operator's intervention.
    return state == DEADLOCK or state[:2] in {"08", "53", "57"} or state == "25P03"


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
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,  # a server that was restarted is noticed before we begin
        pool_timeout=LOCK_S,
    )
