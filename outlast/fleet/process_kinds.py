"""
The kinds of worker process, and what is imported before they are forked.
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
    WORKER_STOPPED = (
        "unfit"  # it had polled and then could not: its namespace is missing
    )
    STORE = "store"  # it cannot be opened, and will not be
    FAILED = "failed"


class Attribution(Enum):
    """
    Who is to blame for the end of a worker process.
    """

    OWN = auto()  # what it had in hand: the end explains itself
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


def worker_identity(pid: int, kind: ProcessKind) -> str:
    """
    Name a worker process as the server lists it.
    """
    return str(WorkerIdentity(pid, socket.gethostname(), kind))


def recorder_path(home: Path, pid: int) -> Path:
    """
    Say where the flight recorder of the worker process *pid* lies.
    """
    return home / "run" / f"{pid}{RECORDER_SUFFIX}"


def stack_path(home: Path, pid: int) -> Path:
    """
    Say where the worker process *pid* writes its stacks when its parent asks.
    """
    return home / "run" / f"{pid}{STACK_SUFFIX}"


def crash_spans_path(home: Path, pid: int) -> Path:
    """
    Say where the spans that the worker process *pid* has under way are noted.
    """
    return home / "run" / f"{pid}{CRASH_SPANS_SUFFIX}"


# What the parent writes into a worker's channel to have it drained; SIGTERM may be the
# agents' own.
DRAIN_DETECTED = b"drain\n"

_WORKER = (
    "outlast.fleet.worker_main",
    "temporalio.worker",
    "temporalio.contrib.pydantic",
)

PRELOADED = dict.fromkeys(ProcessKind, _WORKER)
