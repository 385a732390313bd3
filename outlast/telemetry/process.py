"""
Where a process's counts and spans go: nowhere, until its telemetry has been set up.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outlast.contracts.failures import Detector

if TYPE_CHECKING:
    from outlast.telemetry.otlp import OtlpPipeline

HEARTBEATS = "heartbeats"  # signs of life that were sent
PARKED = "parked"  # tasks that ended parked
DEAD_TASKS = "dead_tasks"
DEAD_ITEMS = "dead_items"

Attributes = Mapping[str, str | bool | int | float]


class Counters:
    """
    Counts nothing; a worker's counts go to its parent. Called from the event loop, but
    for breakers, whose services are asked in threads too.
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


class Tracer:
    """
    Keeps no spans.
    """

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        """
        Begin a span that lasts as long as the context; what begins in it is below it.
        """
        return nullcontext()

    def describe(self, attributes: Attributes) -> None:
        """
        Add *attributes* to the current span.
        """

    def event(self, name: str, attributes: Attributes) -> None:
        """
        Note an instant of the current span.
        """


@dataclass
class ProcessTelemetry:
    """
    The telemetry of one process.
    """

    counters: Counters = field(default_factory=Counters)
    tracer: Tracer = field(default_factory=Tracer)
    pipeline: "OtlpPipeline | None" = None


telemetry = ProcessTelemetry()
