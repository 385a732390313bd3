"""
How often a process may die before it works, until trying again is no use. Pure.
"""

from collections import deque
from dataclasses import dataclass, field

MAX_RESTARTS = 5
RESTART_PERIOD_S = 60.0
RESPAWN_BACKOFF_S = 0.4
RESPAWN_BACKOFF_FACTOR = 2.0


@dataclass
class RestartIntensity:
    """
    At most *limit* deaths within *within_s*, as an OTP supervisor counts them.
    """

    max_restarts: int = MAX_RESTARTS
    period_s: float = RESTART_PERIOD_S
    _deaths: deque[float] = field(default_factory=deque)

    def record(self, now: float) -> None:
        """
        Count a death.
        """
        self._deaths.append(now)
        while now - self._deaths[0] > self.period_s:
            self._deaths.popleft()

    @property
    def exceeded(self) -> bool:
        """
        Whether to give up.
        """
        return len(self._deaths) >= self.max_restarts

    @property
    def backoff_s(self) -> float:
        """
        Seconds to wait before the next try: ever longer.
        """
        return RESPAWN_BACKOFF_S * RESPAWN_BACKOFF_FACTOR ** (len(self._deaths) - 1)
