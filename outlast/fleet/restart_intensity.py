"""
How often a process may die before it works, until trying again is no use. Pure.
"""

from collections import deque
from dataclasses import dataclass, field

LIMIT = 5
WITHIN_S = 60.0
PAUSE_FIRST_S = 0.4
PAUSE_FACTOR = 2.0


@dataclass
class Budget:
    """
    At most *limit* deaths within *within_s*, as an OTP supervisor counts them.
    """

    limit: int = LIMIT
    within_s: float = WITHIN_S
    _deaths: deque[float] = field(default_factory=deque)

    def charge(self, now: float) -> None:
        """
        Count a death.
        """
        self._deaths.append(now)
        while now - self._deaths[0] > self.within_s:
            self._deaths.popleft()

    @property
    def spent(self) -> bool:
        """
        Whether to give up.
        """
        return len(self._deaths) >= self.limit

    @property
    def pause_s(self) -> float:
        """
        Seconds to wait before the next try: ever longer.
        """
        return PAUSE_FIRST_S * PAUSE_FACTOR ** (len(self._deaths) - 1)
