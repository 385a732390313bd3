"""
The kinds of worker process, and what is imported before they are forked.
"""

import socket
from enum import StrEnum
from pathlib import Path

from outlast.contracts.policies import SHIPPED

# What a child tells its parent by its exit code: trying again changes nothing; or it
# had said that it polls and then could not, as where its namespace is missing.
BAD_INPUT = 2
UNFIT = 3

# How often a worker's event loop shows that it turns.
TICK_S = SHIPPED.tick_s

UNENDED = ".spans"
RECORDER = ".rec"
STACK = ".stack"


class Kind(StrEnum):
    """
    What a worker process hosts. Agents never share a process with workflows: one
    blocking call of an agent would hold them all.
    """

    WORKFLOWS = "workflows"
    AGENTS = "agents"
    # One attempt at a time, of tasks that are suspected of killing their process.
    ALONE = "alone"


def identity_of(pid: int, kind: Kind) -> str:
    """
    Name a worker process as the server lists it.
    """
    return f"{worker_of(pid)}{kind}"


def worker_of(pid: int) -> str:
    """
    Say how the identity of the worker process *pid* begins, whatever its kind.
    """
    return f"{pid}@{socket.gethostname()}:"


def recorder_of(home: Path, pid: int) -> Path:
    """
    Say where the flight recorder of the worker process *pid* lies.
    """
    return home / "run" / f"{pid}{RECORDER}"


def stack_of(home: Path, pid: int) -> Path:
    """
    Say where the worker process *pid* writes its stacks when its parent asks.
    """
    return home / "run" / f"{pid}{STACK}"


def unended_of(home: Path, pid: int) -> Path:
    """
    Say where the spans that the worker process *pid* has under way are noted.
    """
    return home / "run" / f"{pid}{UNENDED}"


_WORKER = ("outlast.fleet.child", "temporalio.worker", "temporalio.contrib.pydantic")

PRELOADED = dict.fromkeys(Kind, _WORKER)
