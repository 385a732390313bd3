"""
The kinds of worker process, how each is named and where it keeps its files.
"""

import socket
from enum import Enum, StrEnum, auto
from pathlib import Path

from outlast.contracts.ids import WorkerIdentity
from outlast.contracts.timing import DEFAULT_TIMING

# How often a worker's event loop shows that it turns.
TICK_S = DEFAULT_TIMING.tick_s

CRASH_SPANS_SUFFIX = ".spans"
RECORDER_SUFFIX = ".rec"
STACK_SUFFIX = ".stack"


class ExitReason(StrEnum):
    """
    Why a worker ends by itself, as it says over its channel. Its exit code says
    nothing of the kind: agents call os._exit with codes of their own.
    """

    BAD_INPUT = "bad input"  # trying again changes nothing
    # It had polled and then could not: its namespace is missing.
    WORKER_STOPPED = "worker stopped"
    STORE = "store"  # it cannot be opened, and will not be
    FAILED = "failed"


class Attribution(Enum):
    """
    Who is to blame for the end of a worker process.
    """

    OWN = auto()  # what it had in flight: the end explains itself
    OPEN = auto()  # a kill: by the kernel, from outside, or by itself
    NONE = auto()  # we ended it, or what every worker needs was away


class ProcessKind(StrEnum):
    """
    What a worker process hosts. Agents never share a process with workflows: one
    blocking call of an agent would hold them all.
    """

    WORKFLOWS = "workflows"
    AGENTS = "agents"
    # One attempt at a time, of tasks that are suspected of killing their process.
    QUARANTINE = "quarantine"
    # One attempt in all, of an agent that asked for isolation="process".
    ISOLATED = "isolated"


class ProcessState(StrEnum):
    STARTING = "starting"
    POLLING = "polling"
    DRAINED = "drained"
    DEAD = "dead"


def worker_identity(pid: int, kind: ProcessKind) -> str:
    """
    Name a worker process as the server lists it.
    """
    return str(WorkerIdentity(pid, socket.gethostname(), kind))


def recorder_path(home: Path, pid: int) -> Path:
    return home / "run" / f"{pid}{RECORDER_SUFFIX}"


def stack_path(home: Path, pid: int) -> Path:
    return home / "run" / f"{pid}{STACK_SUFFIX}"


def crash_spans_path(home: Path, pid: int) -> Path:
    return home / "run" / f"{pid}{CRASH_SPANS_SUFFIX}"
