"""
The guard on one outside service: what fails too often is left alone for a while.

    closed     all calls go out; a few in a row fail     -> open
    open       none goes out; the rest is over           -> half-open
    half-open  one goes out, the probe; it succeeds      -> closed
                                        it fails         -> open, twice as long

Pure, with an injected clock. Each call is told apart by the turn in which it went out,
so that one which ends late says nothing about how the service is by then.
"""

from collections.abc import Callable
from enum import StrEnum

from outlast.contracts.policies import TOLERANCE, Tolerance

Clock = Callable[[], float]


class State(StrEnum):
    """
    How a breaker stands.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def _nobody(_: State) -> None:
    """
    Who hears of changes when nobody wants to.
    """


class Breaker:
    """
    One service's breaker.

    :param clock: seconds that only grow.
    :param turned: hears the new state at each change.
    """

    def __init__(
        self,
        clock: Clock,
        turned: Callable[[State], None] = _nobody,
        tolerance: Tolerance = TOLERANCE,
    ) -> None:
        self.state = State.CLOSED
        self._clock = clock
        self._turned = turned
        self._bears = tolerance
        self._turn = 0
        self._failed_at: list[float] = []  # in a row
        self._rest_s = tolerance.rest_s
        self._opened_at = 0.0
        self._probe_at: float | None = None

    def admit(self) -> int | None:
        """
        Let a call go out, or not: its turn, to be given back to `ended`, or None.
        """
        now = self._clock()
        if self.state is State.OPEN and now - self._opened_at >= self._rest_s:
            self._become(State.HALF_OPEN)
        if self.state is State.CLOSED:
            return self._turn
        if self.state is State.OPEN or self._probes(now):
            return None
        self._probe_at = now
        return self._turn

    def ended(self, turn: int, succeeded: bool | None) -> None:
        """
        Hear how a call of *turn* ended; None where that says nothing of the service.
        """
        if turn != self._turn:
            return
        if self.state is State.HALF_OPEN:
            self._probe_at = None
        if succeeded is None:
            return
        if self.state is State.HALF_OPEN:
            self._probed(succeeded)
        elif succeeded:
            self._failed_at.clear()
        else:
            self._failed()

    def _probes(self, now: float) -> bool:
        """
        Whether a probe is out; one that never returns is given up.
        """
        at = self._probe_at
        return at is not None and now - at < self._bears.probe_s

    def _probed(self, succeeded: bool) -> None:
        if succeeded:
            self._rest_s = self._bears.rest_s
            self._become(State.CLOSED)
        else:
            self._rest_s = min(2 * self._rest_s, self._bears.rest_cap_s)
            self._open()

    def _failed(self) -> None:
        now = self._clock()
        since = now - self._bears.window_s
        self._failed_at = [at for at in self._failed_at if at >= since] + [now]
        if len(self._failed_at) >= self._bears.failures:
            self._open()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._failed_at.clear()
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self._turn += 1
        self._probe_at = None
        self.state = state
        self._turned(state)
