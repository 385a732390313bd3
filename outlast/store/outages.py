"""
What an error of the store or of Temporal means for the work at hand, by its code.

    WAIT     it may pass: waited for, and counted against nobody
    DOUBT    waited for UNKNOWN_OUTAGE_S, in which an operator may put it right; then
             as STOP
    STOP     it cannot pass: the fleet stops with one sentence
    REFUSE   what was asked for is at fault: a failure of who has asked

A code that is not here is waited for: to charge somebody for what nobody knows would be
a guess, and what is waited for is shown by `doctor`, `status` and `/health`.
"""

import errno
import sqlite3
from enum import Enum, auto
from typing import NamedTuple

from outlast.contracts.errors import StoreError, StoreLostError, StoreUnavailableError
from outlast.contracts.text import one_line

STORE_CAUSE_CHARS = 200
# A database that is swapped for another, as in a rehearsed failover, is back by then.
UNKNOWN_OUTAGE_S = 20.0


class OutageAction(Enum):
    """
    What is done about an error.
    """

    WAIT = auto()
    WAIT_BRIEFLY = auto()
    STOP = auto()
    REFUSE = auto()


class Outage(NamedTuple):
    """
    What is done about an error, and what a person can do.
    """

    action: OutageAction
    advice: str = ""


UNKNOWN_OUTAGE = Outage(OutageAction.WAIT)
REFUSED_STATEMENT = Outage(OutageAction.REFUSE)

_NO_SPACE = Outage(OutageAction.WAIT, "free room on its disk")
_BUSY = Outage(OutageAction.WAIT, "end what holds it, if that does not end by itself")
_SERVER = Outage(OutageAction.WAIT, "start its server, or mend the way to it")
_WRITABLE = Outage(OutageAction.WAIT, "make it writable, or lead to the primary")
_ALLOW = Outage(
    OutageAction.WAIT_BRIEFLY, "have its server let us in, or mend OUTLAST_DATABASE_URL"
)
_RESTORE = Outage(
    OutageAction.STOP, "restore it from a backup, then start the fleet again"
)
_GONE = Outage(OutageAction.WAIT_BRIEFLY, _RESTORE.advice)

# PostgreSQL, by SQLSTATE: a code of five characters, or a class of two.
SQLSTATES = {
    "08": _SERVER,  # the connection
    "0A": REFUSED_STATEMENT,  # feature not supported
    "21": REFUSED_STATEMENT,
    "22": REFUSED_STATEMENT,  # data
    "23": REFUSED_STATEMENT,  # constraints
    "25": _BUSY,  # transaction state, as one that was idle for too long
    "25006": _WRITABLE,  # read-only: a demoted primary
    "28": _ALLOW,  # passwords and pg_hba.conf
    "3D000": _GONE,  # no such database
    "3F000": Outage(OutageAction.STOP, "name a schema that exists in its search_path"),
    "40": _BUSY,  # deadlock, serialization
    "42": REFUSED_STATEMENT,  # syntax
    "42501": _ALLOW,  # privileges
    "42703": _GONE,  # no such column
    "42P01": _GONE,  # no such table
    "53": Outage(OutageAction.WAIT, "give its server what it lacks"),
    "53100": _NO_SPACE,
    "53300": Outage(
        OutageAction.WAIT,
        "raise max_connections, or start fewer processes (--processes)",
    ),
    "54": REFUSED_STATEMENT,  # a limit of the program, as of a key's length
    "55": _BUSY,  # not ready, in use, lock not available
    "57": _SERVER,  # shut down, starting up, cancelled by an operator
    "57014": _BUSY,  # a statement that was cancelled, or took too long
    "58": _SERVER,  # the system below it
    "XX001": _RESTORE,  # corrupt data
    "XX002": _RESTORE,  # corrupt index
}
# A refused connection comes without a code.
REFUSED_CONNECTIONS = {
    "authentication failed": "28",
    "no pg_hba.conf entry": "28",
    "does not exist": "3D000",
    "too many c": "53300",  # clients, or connections for a role or database
}

# SQLite, by extended or primary result code.
SQLITE_CODES = {
    sqlite3.SQLITE_ERROR: REFUSED_STATEMENT,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_INTERRUPT: _BUSY,
    sqlite3.SQLITE_NOMEM: Outage(OutageAction.WAIT, "free memory"),
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_IOERR: Outage(
        OutageAction.WAIT, "look at its disk, and at the room there"
    ),
    sqlite3.SQLITE_CANTOPEN: Outage(
        OutageAction.WAIT, "look at its folder's owner, mode and room"
    ),
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_READONLY_DBMOVED: _RESTORE,
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_FORMAT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
    sqlite3.SQLITE_CANTOPEN_ISDIR: _RESTORE,
    sqlite3.SQLITE_TOOBIG: REFUSED_STATEMENT,
    sqlite3.SQLITE_CONSTRAINT: REFUSED_STATEMENT,
    sqlite3.SQLITE_MISMATCH: REFUSED_STATEMENT,
    sqlite3.SQLITE_MISUSE: REFUSED_STATEMENT,
    sqlite3.SQLITE_RANGE: REFUSED_STATEMENT,
}
MISSING_SCHEMA = ("no such table", "no such column")

# The file system below a store in a file.
ERRNOS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EACCES: Outage(OutageAction.STOP, "let us write there"),
    errno.ENOTDIR: Outage(OutageAction.STOP, "let its folder be a folder"),
}

# Temporal, by gRPC status: whether the call is made again. The others are answers.
GRPC_STATUSES = {
    **dict.fromkeys(
        ("CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"), True
    ),
    **dict.fromkeys(("ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"), True),
    **dict.fromkeys(("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"), False),
    **dict.fromkeys(("PERMISSION_DENIED", "FAILED_PRECONDITION"), False),
    **dict.fromkeys(("OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED"), False),
}


def of_sqlstate(state: str) -> Outage:
    return SQLSTATES.get(state) or SQLSTATES.get(state[:2], UNKNOWN_OUTAGE)


def of_refused_connection(words: str) -> Outage:
    """
    Look up why PostgreSQL did not let us in, which it says in *words* alone.
    """
    codes = (code for said, code in REFUSED_CONNECTIONS.items() if said in words)
    state = next(codes, None)
    return _SERVER if state is None else of_sqlstate(state)


def of_sqlite(code: int | None, words: str) -> Outage:
    """
    Look up what SQLite means by an extended *code*; without one the driver itself has
    refused us.
    """
    if code is None:
        return REFUSED_STATEMENT
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_ERROR and words.startswith(MISSING_SCHEMA):
        return _RESTORE
    return SQLITE_CODES.get(code) or SQLITE_CODES.get(primary, UNKNOWN_OUTAGE)


def of_errno(number: int | None) -> Outage:
    return ERRNOS.get(number or 0, UNKNOWN_OUTAGE)


def is_transient_grpc(status: str) -> bool:
    return GRPC_STATUSES.get(status, True)


def store_error(
    place: str, words: str, outage: Outage, first: bool = False
) -> StoreError:
    """
    Make the error that says in *words* what is the matter with the store at *place*.

    :param first: it has never been open, so that nobody waits out a doubt.
    """
    cause = one_line(
        words.strip().splitlines()[0] if words.strip() else "", STORE_CAUSE_CHARS
    )
    sentence = f"the store at {place}: {cause or 'it does not say why'}"
    if outage.advice:
        sentence = f"{sentence}; {outage.advice}"
    match outage.action:
        case OutageAction.WAIT:
            return StoreUnavailableError(sentence)
        case OutageAction.WAIT_BRIEFLY if not first:
            return StoreUnavailableError(sentence, maybe_written=True)
        case OutageAction.WAIT_BRIEFLY | OutageAction.STOP:
            return StoreLostError(sentence)
    return StoreError(sentence)
