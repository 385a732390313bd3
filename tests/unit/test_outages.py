"""
The one table of what is done about an error of the store or of Temporal.
"""

import sqlite3

import pytest
from psycopg import errors
from temporalio.service import RPCStatusCode

from outlast.contracts.errors import StoreError, StoreLostError, StoreUnavailableError
from outlast.store.outages import (
    GRPC_STATUSES,
    SQLITE_CODES,
    SQLSTATES,
    OutageAction,
    is_transient_grpc,
    of_errno,
    of_refused_connection,
    of_sqlite,
    of_sqlstate,
    store_error,
)

WAIT, DOUBT, STOP, REFUSE = OutageAction


@pytest.mark.parametrize(
    ("error", "course"),
    [
        (errors.DiskFull, WAIT),
        (errors.TooManyConnections, WAIT),
        (errors.OutOfMemory, WAIT),
        (errors.ReadOnlySqlTransaction, WAIT),
        (errors.SerializationFailure, WAIT),
        (errors.DeadlockDetected, WAIT),
        (errors.LockNotAvailable, WAIT),
        (errors.QueryCanceled, WAIT),
        (errors.AdminShutdown, WAIT),
        (errors.CrashShutdown, WAIT),
        (errors.CannotConnectNow, WAIT),
        (errors.ConnectionFailure, WAIT),
        (errors.IdleInTransactionSessionTimeout, WAIT),
        (errors.ObjectNotInPrerequisiteState, WAIT),
        (errors.IoError, WAIT),
        (errors.InternalError_, WAIT),
        (errors.UndefinedTable, DOUBT),
        (errors.UndefinedColumn, DOUBT),
        (errors.InvalidCatalogName, DOUBT),
        (errors.InvalidPassword, DOUBT),
        (errors.InsufficientPrivilege, DOUBT),
        (errors.DataCorrupted, STOP),
        (errors.IndexCorrupted, STOP),
        (errors.UniqueViolation, REFUSE),
        (errors.NumericValueOutOfRange, REFUSE),
        (errors.ProgramLimitExceeded, REFUSE),
        (errors.SyntaxError, REFUSE),
    ],
)
def test_each_state_of_postgresql_has_its_course(
    error: type[Exception], course: OutageAction
) -> None:
    """
    What passes is waited for; what an operator may put right, for a while.
    """
    state = error.sqlstate  # type: ignore[attr-defined]
    assert of_sqlstate(state).action is course


@pytest.mark.parametrize(
    ("name", "course"),
    [
        ("SQLITE_FULL", WAIT),
        ("SQLITE_BUSY", WAIT),
        ("SQLITE_BUSY_RECOVERY", WAIT),
        ("SQLITE_LOCKED", WAIT),
        ("SQLITE_IOERR", WAIT),
        ("SQLITE_IOERR_WRITE", WAIT),
        ("SQLITE_IOERR_SHMSIZE", WAIT),
        ("SQLITE_CANTOPEN", WAIT),
        ("SQLITE_READONLY", WAIT),
        ("SQLITE_READONLY_DIRECTORY", WAIT),
        ("SQLITE_NOMEM", WAIT),
        ("SQLITE_READONLY_DBMOVED", STOP),
        ("SQLITE_CORRUPT", STOP),
        ("SQLITE_CORRUPT_INDEX", STOP),
        ("SQLITE_NOTADB", STOP),
        ("SQLITE_CONSTRAINT_UNIQUE", REFUSE),
        ("SQLITE_TOOBIG", REFUSE),
    ],
)
def test_each_code_of_sqlite_has_its_course(name: str, course: OutageAction) -> None:
    """
    An extended code is what its primary one is, unless it has a line of its own.
    """
    assert of_sqlite(getattr(sqlite3, name), "what it says").action is course


def test_a_table_that_is_gone_is_no_mistake_of_who_asks() -> None:
    """
    SQLite has one code for all that it cannot make sense of.
    """
    assert of_sqlite(sqlite3.SQLITE_ERROR, "no such table: claims").action is STOP
    assert of_sqlite(sqlite3.SQLITE_ERROR, "near FROM: syntax error").action is REFUSE


def test_an_unknown_code_is_waited_for() -> None:
    """
    Whom it should be charged to nobody knows; people see what is waited for.
    """
    unknown = [of_sqlstate("ZZ123"), of_sqlite(99, ""), of_errno(None)]
    assert {each.action for each in unknown} == {WAIT}
    assert is_transient_grpc("NEW")


def test_every_status_of_grpc_has_a_line() -> None:
    """
    What Temporal may answer is either an answer or worth another call.
    """
    names = {each.name for each in RPCStatusCode} - {"OK"}
    assert names == set(GRPC_STATUSES)
    assert is_transient_grpc("UNAVAILABLE")
    assert is_transient_grpc("RESOURCE_EXHAUSTED")
    assert not is_transient_grpc("NOT_FOUND")


def test_whoever_must_act_is_told_how() -> None:
    """
    Every line that does not blame who asks says what a person can do.
    """
    for outage in (*SQLSTATES.values(), *SQLITE_CODES.values()):
        assert outage.advice or outage.action is REFUSE


def test_a_crowded_server_says_so_in_words() -> None:
    """
    What helps is not to start it.
    """
    crowded = of_refused_connection("FATAL: sorry, too many clients already")
    assert "max_connections" in crowded.advice


@pytest.mark.parametrize(
    ("words", "course"),
    [
        ('password authentication failed for user "x"', DOUBT),
        ('database "x" does not exist', DOUBT),
        ("connection refused", WAIT),
        ("sorry, too many clients already", WAIT),
        ("Passwort-Authentifizierung fehlgeschlagen", WAIT),
    ],
)
def test_a_connection_that_is_refused_says_why_in_words(
    words: str, course: OutageAction
) -> None:
    """
    There is no code before there is a connection.
    """
    assert of_refused_connection(words).action is course


@pytest.mark.parametrize(
    ("state", "first", "kind", "doubtful"),
    [
        ("53100", False, StoreUnavailableError, False),
        ("42P01", False, StoreUnavailableError, True),
        ("42P01", True, StoreLostError, None),
        ("XX001", False, StoreLostError, None),
        ("23505", False, StoreError, None),
    ],
)
def test_the_course_is_the_kind_of_the_error(
    state: str, first: bool, kind: type[StoreError], doubtful: bool | None
) -> None:
    """
    One sentence that names the store; a doubt is waited out by who had it open only.
    """
    error = store_error("here", "it broke\nin two", of_sqlstate(state), first)
    assert type(error) is kind
    assert str(error).startswith("the store at here: it broke")
    assert "in two" not in str(error)
    assert getattr(error, "maybe_written", None) is doubtful
