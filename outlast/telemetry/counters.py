"""
What is counted of attempts. In a worker the fleet's parent is told, elsewhere nobody.

Called from the event loop, but for breakers, whose services are asked in threads too.
"""

from typing import Protocol

from outlast.contracts.failures import Detector

BEATS = "beats"  # signs of life that were sent
PARKED = "parked"  # tasks that ended parked
DEAD_TASKS = "dead_tasks"
DEAD_ITEMS = "dead_items"

# Said of an attempt that the server retries, where others carry a cause.
FAILED_BEFORE = "the attempt before failed"


class Counts(Protocol):
    """
    Where counts go.
    """

    def count(self, name: str) -> None:
        """
        Count one more of *name*.
        """

    def recovered(self, detected_by: Detector, after_s: float) -> None:
        """
        Count that a task goes on, *after_s* after the last sign of the attempt before,
        whose end *detected_by* has noticed.
        """

    def breaker_turned(self, service: str, state: str) -> None:
        """
        Count that the breaker of *service* has become *state*.
        """


class Nobody:
    """
    Counts nothing.
    """

    def count(self, name: str) -> None:
        pass

    def recovered(self, detected_by: Detector, after_s: float) -> None:
        pass

    def breaker_turned(self, service: str, state: str) -> None:
        pass


_listening: list[Counts] = [Nobody()]


def listen(counts: Counts) -> None:
    """
    Have what happens in this process counted by *counts*.
    """
    _listening[0] = counts


def count(name: str) -> None:
    """
    Count one more of *name*.
    """
    _listening[0].count(name)


def recovered(detected_by: Detector, after_s: float) -> None:
    """
    Count a recovery.
    """
    _listening[0].recovered(detected_by, after_s)


def breaker_turned(service: str, state: str) -> None:
    """
    Count a breaker's change.
    """
    _listening[0].breaker_turned(service, state)
