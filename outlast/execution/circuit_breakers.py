"""
The outside services that agents of this process ask, each behind its breaker.

Nothing is tried twice here: what fails goes back to Temporal, the one layer that
retries.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from outlast.contracts.errors import (
    CircuitOpenError,
    OutlastError,
    ServiceError,
    TryLater,
)
from outlast.execution.circuit_breaker import BreakerState, CircuitBreaker
from outlast.telemetry.counters import breaker_changed

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
        breaker = _breakers.setdefault(service, _make(service))
        turn = breaker.try_acquire()
    if turn is None:
        raise CircuitOpenError(f"{service} fails and is left alone for now")
    succeeded: bool | None = None
    try:
        yield
        succeeded = True
    except Exception as error:
        succeeded = _is_service_failure(error)
        raise
    finally:
        with _lock:
            breaker.record(turn, succeeded)


def forget_breakers() -> None:
    """
    Begin anew, as a process does.
    """
    with _lock:
        _breakers.clear()


def _is_service_failure(error: Exception) -> bool | None:
    """
    What *error* says of the service.
    """
    own = isinstance(error, OutlastError)
    return None if own and not isinstance(error, TryLater | ServiceError) else False


def _make(service: str) -> CircuitBreaker:
    def turned(state: BreakerState) -> None:
        breaker_changed(service, state)

    return CircuitBreaker(time.monotonic, turned)
