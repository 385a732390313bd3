"""
The SIGKILL that a process sends itself: noted before it is sent.

Nothing shows afterwards which process has sent a SIGKILL. This note tells a poison task
whose own code did from a victim of others. Only what goes through Python is seen.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# The calls that send a signal: whether one to that target reaches this process.
KILL_EVENTS: dict[str, Callable[[int], bool]] = {
    "os.kill": lambda target: target in (os.getpid(), 0, -1, -os.getpgrp()),
    "os.killpg": lambda group: group in (0, os.getpgrp()),
    "signal.pthread_kill": lambda _: True,  # SIGKILL ends all threads
}


def on_own_kill(note: Callable[[], None]) -> None:
    """
    Have *note* called right before this process sends a SIGKILL to itself. For good:
    an audit hook cannot be removed.
    """
    ours = os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        # Not in what it forks, which has the hook, too.
        kills = event in KILL_EVENTS and args[1] == signal.SIGKILL
        if kills and os.getpid() == ours and KILL_EVENTS[event](args[0]):
            note()

    sys.addaudithook(hook)
