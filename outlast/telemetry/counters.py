"""
What is counted of attempts. In a worker the fleet's parent is told, elsewhere nobody.

Called from the event loop, but for breakers, whose services are asked in threads too.
"""

from typing import Protocol

from outlast.contracts.failures import Detector

HEARTBEATS = "heartbeats"  # signs of life that were sent
PARKED = "parked"  # tasks that ended parked
DEAD_TASKS = "dead_tasks"
DEAD_ITEMS = "dead_items"

# Said of an attempt that the server retries, where others carry a cause.
FAILED_BEFORE = "the attempt before failed"


class Counters(Protocol):
    """
    Where counts go.
    """

    def count(self, name: str) -> None:
        """
        Count one more of *name*.
        """

    def recovered(self, detected_by: Detector, recovery_s: float) -> None:
        """
        Count that a task goes on, *recovery_s* after the last sign of the attempt
        before, whose end *detected_by* has noticed.
        """

    def breaker_changed(self, service: str, state: str) -> None:
        """
        Count that the breaker of *service* has become *state*.
        """


class NullCounters:
    """
    Counts nothing.
    """

    def count(self, name: str) -> None:
        pass

    def recovered(self, detected_by: Detector, recovery_s: float) -> None:
        pass

    def breaker_changed(self, service: str, state: str) -> None:
        pass


_counters: list[Counters] = [NullCounters()]


def set_counters(counts: Counters) -> None:
    """
    Have what happens in this process counted by *counts*.
    """
    _counters[0] = counts


def count(name: str) -> None:
    """
    Count one more of *name*.
    """
    _counters[0].count(name)


def recovered(detected_by: Detector, recovery_s: float) -> None:
    """
    Count a recovery.
    """
    _counters[0].recovered(detected_by, recovery_s)


def breaker_changed(service: str, state: str) -> None:
    """
    Count a breaker's change.
    """
    _counters[0].breaker_changed(service, state)
