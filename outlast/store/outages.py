"""
What an error of the store or of Temporal means for the work at hand, by its code.

    WAIT     it may pass: waited for, and counted against nobody
    DOUBT    waited for DOUBT_S, in which an operator may put it right; then as STOP
    STOP     it cannot pass: the fleet stops with one sentence
    REFUSE   what was asked for is at fault: a failure of who has asked

A code that is not here is waited for: to charge somebody for what nobody knows would be
a guess, and what is waited for is shown by `doctor`, `status` and `/health`.
"""

import errno
import sqlite3
from enum import Enum, auto
from typing import NamedTuple

# A database that is swapped for another, as in a rehearsed failover, is back by then.
DOUBT_S = 20.0


class Course(Enum):
    """
    What is done about an error.
    """

    WAIT = auto()
    DOUBT = auto()
    STOP = auto()
    REFUSE = auto()


class Outage(NamedTuple):
    """
    What is done about an error, and what a person can do.
    """

    course: Course
    advice: str = ""


UNKNOWN = Outage(Course.WAIT)
REFUSED = Outage(Course.REFUSE)

_ROOM = Outage(Course.WAIT, "free room on its disk")
_BUSY = Outage(Course.WAIT, "end what holds it, if that does not end by itself")
_SERVER = Outage(Course.WAIT, "start its server, or mend the way to it")
_WRITABLE = Outage(Course.WAIT, "make it writable, or lead to the primary")
_ALLOW = Outage(Course.DOUBT, "have its server let us in, or mend OUTLAST_DATABASE_URL")
_RESTORE = Outage(Course.STOP, "restore it from a backup, then start the fleet again")
_GONE = Outage(Course.DOUBT, _RESTORE.advice)

# PostgreSQL, by SQLSTATE: a code of five characters, or a class of two.
SQLSTATES = {
    "08": _SERVER,  # the connection
    "0A": REFUSED,  # feature not supported
    "21": REFUSED,
    "22": REFUSED,  # data
    "23": REFUSED,  # constraints
    "25": _BUSY,  # transaction state, as one that was idle for too long
    "25006": _WRITABLE,  # read-only: a demoted primary
    "28": _ALLOW,  # passwords and pg_hba.conf
    "3D000": _GONE,  # no such database
    "3F000": _GONE,  # no such schema
    "40": _BUSY,  # deadlock, serialization
    "42": REFUSED,  # syntax
    "42501": _ALLOW,  # privileges
    "42703": _GONE,  # no such column
    "42P01": _GONE,  # no such table
    "53": Outage(Course.WAIT, "give its server what it lacks"),
    "53100": _ROOM,
    "53300": Outage(
        Course.WAIT, "raise max_connections, or start fewer processes (--processes)"
    ),
    "54": REFUSED,  # a limit of the program, as of a key's length
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
    sqlite3.SQLITE_ERROR: REFUSED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_INTERRUPT: _BUSY,
    sqlite3.SQLITE_NOMEM: Outage(Course.WAIT, "free memory"),
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_IOERR: Outage(
        Course.WAIT, "look at its disk, and at the room there"
    ),
    sqlite3.SQLITE_CANTOPEN: Outage(
        Course.WAIT, "look at its folder's owner, mode and room"
    ),
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_READONLY_DBMOVED: _RESTORE,
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_FORMAT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
    sqlite3.SQLITE_CANTOPEN_ISDIR: _RESTORE,
    sqlite3.SQLITE_TOOBIG: REFUSED,
    sqlite3.SQLITE_CONSTRAINT: REFUSED,
    sqlite3.SQLITE_MISMATCH: REFUSED,
    sqlite3.SQLITE_MISUSE: REFUSED,
    sqlite3.SQLITE_RANGE: REFUSED,
}
NO_SUCH = ("no such table", "no such column")

# The file system below a store in a file.
ERRNOS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: Outage(Course.STOP, "let us write there"),
    errno.ENOTDIR: Outage(Course.STOP, "let its folder be a folder"),
}

# Temporal, by gRPC status. NOT_FOUND and ALREADY_EXISTS are answers, not outages.
GRPC_STATUSES = {
    "CANCELLED": UNKNOWN,
    "UNKNOWN": UNKNOWN,
    "DEADLINE_EXCEEDED": _SERVER,
    "RESOURCE_EXHAUSTED": Outage(Course.WAIT, "raise the limits of its namespace"),
    "ABORTED": UNKNOWN,
    "INTERNAL": UNKNOWN,
    "UNAVAILABLE": _SERVER,
    "DATA_LOSS": UNKNOWN,
    "INVALID_ARGUMENT": REFUSED,
    "NOT_FOUND": REFUSED,
    "ALREADY_EXISTS": REFUSED,
    "PERMISSION_DENIED": REFUSED,
    "FAILED_PRECONDITION": REFUSED,
    "OUT_OF_RANGE": REFUSED,
    "UNIMPLEMENTED": REFUSED,
    "UNAUTHENTICATED": REFUSED,
}


def of_sqlstate(state: str) -> Outage:
    """
    Look up what PostgreSQL means by *state*.
    """
    return SQLSTATES.get(state) or SQLSTATES.get(state[:2], UNKNOWN)


def of_refused_connection(words: str) -> Outage:
    """
    Look up why PostgreSQL did not let us in, which it says in *words* alone.
    """
    told = (code for said, code in REFUSED_CONNECTIONS.items() if said in words)
    state = next(told, None)
    return _SERVER if state is None else of_sqlstate(state)


def of_sqlite(code: int | None, words: str) -> Outage:
    """
    Look up what SQLite means by an extended *code*; without one the driver itself has
    refused us.
    """
    if code is None:
        return REFUSED
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_ERROR and words.startswith(NO_SUCH):
        return _RESTORE
    return SQLITE_CODES.get(code) or SQLITE_CODES.get(primary, UNKNOWN)


def of_errno(number: int | None) -> Outage:
    """
    Look up what the file system means by *number*.
    """
    return ERRNOS.get(number or 0, UNKNOWN)


def of_grpc(status: str) -> Outage:
    """
    Look up what Temporal means by the *status* of a call.
    """
    return GRPC_STATUSES.get(status, UNKNOWN)


def passes(status: str) -> bool:
    """
    Whether a call to Temporal that ended with *status* is to be made again.
    """
    return of_grpc(status).course is Course.WAIT
