"""
What runs on a home, as those see it who do not run it.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from outlast.dev.locks import STACK_LOCK, lock

READY_FILE = "stack.json"  # the ready line of the stack
STACK_LOG = "stack.log"  # of a stack that was started for a user
SERVER_LOG = "server.log"

READY_LIMIT_S = 60.0
STACK_STOP_S = 15.0


class WorkerProcessLine(BaseModel):
    """
    A worker process in a ready line.
    """

    kind: str
    pid: int


class ReadyFleet(BaseModel):
    """
    What is known of a fleet whose workers all poll.

    :param fleet: the process id of its parent.
    :param health: where its health pages are.
    :param peer: its name in a mesh, and *mesh* its address there.
    """

    fleet: int = 0
    workers: list[WorkerProcessLine] = []
    health: str = ""
    peer: str | None = None
    mesh: str | None = None


class StackReady(ReadyFleet):
    """
    The ready line of a stack: its fleet and its server.
    """

    ready: Literal[True] = True
    address: str
    ui: str = ""


class FleetLine(ReadyFleet):
    """
    What a fleet says of its start: that it is ready, or why it never will be.

    :param refused: what its user can mend.
    :param failed: all else.
    """

    ready: bool
    refused: str | None = None
    failed: str | None = None

    def ready_stack(self, address: str, ui: str) -> StackReady:
        fleet = self.model_dump(include=set(ReadyFleet.model_fields))
        return StackReady(address=address, ui=ui, **fleet)


@dataclass(frozen=True)
class StackState:
    """
    Whether a process owns the stack of a home, and the stack's ready line. An owner
    without one is about to be ready, or about to end.
    """

    owned: bool
    ready: StackReady | None = None


def read_stack(home: Path) -> StackState:
    if not (home / STACK_LOCK).exists():
        return StackState(False)
    # Shared: two who look at once must not take each other for an owner.
    free = lock(home / STACK_LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if free is not None:
        os.close(free)
        return StackState(False)
    try:
        text = (home / READY_FILE).read_text()
        return StackState(True, StackReady.model_validate_json(text))
    except (OSError, ValueError):
        return StackState(True)


def slow_start_text(home: Path) -> str:
    return (
        f"the stack on {home} is neither ready nor gone after {READY_LIMIT_S:g} s: "
        f"{logs_text(home)}; end its `dev`, then start it again"
    )


def logs_text(home: Path) -> str:
    named = [home / STACK_LOG, home / SERVER_LOG]
    return "see " + " and ".join(str(each) for each in named if each.exists())
