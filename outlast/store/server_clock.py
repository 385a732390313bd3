"""
The time of the database's server, for what several hosts write and compare.

Each host's own clock would decide by how far it is off. The server's is read now and
then, and carried on by a clock of the process that only grows.
"""

import time
from collections.abc import Callable

# A server whose clock was set, or another server, is noticed within this.
CLOCK_CHECK_S = 10.0


class ServerClock:
    """
    Seconds since 1970 by the server's clock.

    :param grows: seconds that only grow.
    """

    def __init__(self, grows: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = grows
        self._ahead_s = 0.0
        self._checked_at: float | None = None

    def __call__(self) -> float:
        assert self._checked_at is not None
        return self._monotonic() + self._ahead_s

    @property
    def is_due(self) -> bool:
        at = self._checked_at
        return at is None or self._monotonic() - at > CLOCK_CHECK_S

    def check(self, read: Callable[[], float]) -> None:
        began = self._monotonic()
        server_s = read()
        self._checked_at = self._monotonic()
        # Half of the way there and back: as far off as that at most.
        self._ahead_s = server_s - (began + self._checked_at) / 2
