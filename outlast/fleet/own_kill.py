"""
The SIGKILL that a process sends itself: noted before it is sent.

Nothing tells afterwards who has sent a SIGKILL. A poison task whose own code did is
told from a victim of others by this note. Only what goes through Python is seen.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def on_own_kill(note: Callable[[], None]) -> None:
    """
    Have *note* called right before this process sends a SIGKILL to itself. For good:
    an audit hook cannot be removed.
    """
    ours = os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        # Not in what it forks, which has the hook, too.
        if event in KILL_EVENTS and args[1] == signal.SIGKILL and os.getpid() == ours:
            reached = KILL_EVENTS[event](args[0])
            if reached:
                note()

    sys.addaudithook(hook)


def _reached_by_kill(target: int) -> bool:
    return target in (os.getpid(), 0, -1, -os.getpgrp())


def _reached_by_killpg(group: int) -> bool:
    return group in (0, os.getpgrp())


def _reached_by_pthread_kill(_thread: int) -> bool:
    return True  # SIGKILL ends all threads


KILL_EVENTS: dict[str, Callable[[int], bool]] = {
    "os.kill": _reached_by_kill,
    "os.killpg": _reached_by_killpg,
    "signal.pthread_kill": _reached_by_pthread_kill,
}
