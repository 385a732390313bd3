"""
The guard on one outside service: what fails too often is left alone for a while.

    closed     all calls go out; a few in a row fail     -> open
    open       none goes out; the rest is over           -> half-open
    half-open  one goes out, the probe; it succeeds      -> closed
                                        it fails         -> open, twice as long

The breaker is pure, with an injected clock. Each call is told apart by the generation
in which it went out, so that one which ends late says nothing about how the service is
by then. Nothing is tried twice here: what fails goes back to Temporal, the one layer
that retries.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from threading import Lock

from outlast.contracts.errors import (
    CircuitOpenError,
    OutlastError,
    ServiceError,
    TryLater,
)
from outlast.contracts.retries import DEFAULT_BREAKER_POLICY, BreakerPolicy
from outlast.telemetry.process import telemetry

Clock = Callable[[], float]


class BreakerState(StrEnum):
    """
    The states of a breaker.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    One service's breaker.

    :param clock: seconds that only grow.
    :param on_change: hears the new state at each change.
    """

    def __init__(
        self,
        clock: Clock,
        on_change: Callable[[BreakerState], None] = lambda _: None,
        tolerance: BreakerPolicy = DEFAULT_BREAKER_POLICY,
    ) -> None:
        self.state = BreakerState.CLOSED
        self._clock = clock
        self._on_change = on_change
        self._tolerates = tolerance
        self._generation = 0
        self._failed_at: list[float] = []  # in a row
        self._open_s = tolerance.open_s
        self._opened_at = 0.0
        self._probe_at: float | None = None

    def try_acquire(self) -> int | None:
        """
        Return the generation of a call that may go out, for `record`; None when it may
        not.
        """
        now = self._clock()
        if self.state is BreakerState.OPEN and now - self._opened_at >= self._open_s:
            self._change_state(BreakerState.HALF_OPEN)
        if self.state is BreakerState.CLOSED:
            return self._generation
        at, limit_s = self._probe_at, self._tolerates.probe_s
        probed = at is not None and now - at < limit_s  # one that hangs is given up
        if self.state is BreakerState.OPEN or probed:
            return None
        self._probe_at = now
        return self._generation

    def record(self, generation: int, succeeded: bool | None) -> None:
        """
        Note how a call of *generation* ended; *succeeded* is None where that says
        nothing of the service.
        """
        if generation != self._generation:
            return
        self._probe_at = None
        if succeeded is False:
            self._failed()
        elif succeeded and self.state is BreakerState.HALF_OPEN:
            self._open_s = self._tolerates.open_s
            self._change_state(BreakerState.CLOSED)
        elif succeeded:
            self._failed_at.clear()

    def _failed(self) -> None:
        now, tolerates = self._clock(), self._tolerates
        since = now - tolerates.window_s
        self._failed_at = [at for at in self._failed_at if at >= since] + [now]
        probed = self.state is BreakerState.HALF_OPEN
        if probed:
            self._open_s = min(2 * self._open_s, tolerates.max_open_s)
        if probed or len(self._failed_at) >= tolerates.failures:
            self._opened_at = now
            self._failed_at.clear()
            self._change_state(BreakerState.OPEN)

    def _change_state(self, state: BreakerState) -> None:
        self._generation += 1
        self._probe_at = None
        self.state = state
        self._on_change(state)


_breakers: dict[str, CircuitBreaker] = {}
_lock = Lock()  # plain agents ask from their threads


@contextmanager
def circuit(service: str) -> Iterator[None]:
    """
    Ask *service* within this context, if its breaker lets the call out.

    What is raised counts as its failure, but for an agent's own word: a GiveUp says
    that the service has answered.

    :raises CircuitOpenError: when the service is left alone for now.
    """
    with _lock:
        if service not in _breakers:
            _breakers[service] = CircuitBreaker(
                time.monotonic, partial(_count_change, service)
            )
        breaker = _breakers[service]
        generation = breaker.try_acquire()
    if generation is None:
        raise CircuitOpenError(f"{service} fails and is left alone for now")
    succeeded: bool | None = None
    try:
        yield
        succeeded = True
    except Exception as error:
        succeeded = _succeeded_despite(error)
        raise
    finally:
        with _lock:
            breaker.record(generation, succeeded)


def forget_breakers() -> None:
    with _lock:
        _breakers.clear()


def _succeeded_despite(error: Exception) -> bool | None:
    # None: it says nothing of the service.
    own = isinstance(error, OutlastError)
    return None if own and not isinstance(error, TryLater | ServiceError) else False


def _count_change(service: str, state: str) -> None:
    telemetry.counters.breaker_changed(service, state)
