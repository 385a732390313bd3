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
    At most *max_restarts* deaths within *period_s*, as an OTP supervisor counts them.
    """

    max_restarts: int = MAX_RESTARTS
    period_s: float = RESTART_PERIOD_S
    _deaths: deque[float] = field(default_factory=deque)

    def record(self, now: float) -> None:
        self._deaths.append(now)
        while now - self._deaths[0] > self.period_s:
            self._deaths.popleft()

    @property
    def exceeded(self) -> bool:
        return len(self._deaths) >= self.max_restarts

    @property
    def backoff_s(self) -> float:
        return RESPAWN_BACKOFF_S * RESPAWN_BACKOFF_FACTOR ** (len(self._deaths) - 1)
