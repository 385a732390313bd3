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
from outlast.execution.circuit_breaker import Breaker, State
from outlast.telemetry.counters import breaker_turned

_breakers: dict[str, Breaker] = {}
_lock = Lock()  # plain agents ask from their threads


@contextmanager
def guarded(service: str) -> Iterator[None]:
    """
    Ask *service* within this context, if its breaker lets the call out.

    What is raised counts as its failure, but for an agent's own word: a GiveUp says
    that the service has answered.

    :raises CircuitOpenError: when the service is left alone for now.
    """
    with _lock:
        breaker = _breakers.setdefault(service, _make(service))
        turn = breaker.admit()
    if turn is None:
        raise CircuitOpenError(f"{service} fails and is left alone for now")
    succeeded: bool | None = None
    try:
        yield
        succeeded = True
    except Exception as error:
        succeeded = _says(error)
        raise
    finally:
        with _lock:
            breaker.ended(turn, succeeded)


def forget() -> None:
    """
    Begin anew, as a process does.
    """
    with _lock:
        _breakers.clear()


def _says(error: Exception) -> bool | None:
    """
    What *error* says of the service.
    """
    own = isinstance(error, OutlastError)
    return None if own and not isinstance(error, TryLater | ServiceError) else False


def _make(service: str) -> Breaker:
    def turned(state: State) -> None:
        breaker_turned(service, state)

    return Breaker(time.monotonic, turned)
