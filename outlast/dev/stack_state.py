"""
What runs on a home, as those see it who do not run it.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.dev.locks import STACK_LOCK, lock

READY_FILE = "stack.json"  # the ready line of the stack
STACK_LOG = "stack.log"  # of a stack that was started for a user
SERVER_LOG = "server.log"

READY_LIMIT_S = 60.0
STACK_STOP_S = 15.0


@dataclass(frozen=True)
class StackState:
    """
    Whether a process owns the stack of a home, and the stack's ready line. An owner
    without one is about to be ready, or about to end.
    """

    owned: bool
    ready: dict[str, Any] | None = None


def read_stack(home: Path) -> StackState:
    if not (home / STACK_LOCK).exists():
        return StackState(False)
    # Shared: two who look at once must not take each other for an owner.
    free = lock(home / STACK_LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if free is not None:
        os.close(free)
        return StackState(False)
    try:
        return StackState(True, json.loads((home / READY_FILE).read_text()))
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
