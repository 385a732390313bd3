"""
When a process with leaked attempts is replaced. Pure.

A thread cannot be killed, and a coroutine may swallow its cancellation: their attempts
are over for their missions, but they keep a thread, memory and whatever they hold. Only
the end of their process ends them.
"""

from collections.abc import Callable
from dataclasses import dataclass

# What leaks may end by itself, as a plain agent that asks ctx.cancelled does.
LEAK_GRACE_S = 1.0
# Other attempts have so long to finish where they are; then they are handed on.
LEAKED_LIMIT_S = 30.0
# So many leaked calls are not waited for: each holds a thread of the plain agents.
MAX_LEAKED = 8


@dataclass
class Leaks:
    """
    Judges one process from look to look.

    :param quarantined: it takes one attempt at a time, and no other may wait for it.
    """

    quarantined: bool = False
    _since: float | None = None

    def recycle(self, now: float, leaked: int, idle: Callable[[], bool]) -> bool:
        """
        Say whether the process should drain and make room for a fresh one.

        :param leaked: calls that still run in it though their attempts are over.
        :param idle: whether it has nothing else in hand.
        """
        if not leaked:
            self._since = None  # they have ended by themselves
            return False
        if self._since is None:
            self._since = now
        if self.quarantined or leaked >= MAX_LEAKED:
            return True
        age_s = now - self._since
        return age_s > LEAKED_LIMIT_S or (age_s > LEAK_GRACE_S and idle())
