"""
What attempts tell of themselves as spans.

Nobody listens until the process has begun telemetry; from then on it is OpenTelemetry,
of which nothing is known here.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from outlast.ledger.fence import Claim

Value = str | bool | int | float
Attributes = Mapping[str, Value]


class Tracer(Protocol):
    """
    Where spans go.
    """

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        """
        Begin a span that lasts as long as the context; what begins in it is below it.
        """

    def describe(self, attributes: Attributes) -> None:
        """
        Say more of the span that lasts now.
        """

    def event(self, name: str, attributes: Attributes) -> None:
        """
        Note an instant of the span that lasts now.
        """


class NullTracer:
    """
    Keeps nothing.
    """

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        return nullcontext()

    def describe(self, attributes: Attributes) -> None:
        pass

    def event(self, name: str, attributes: Attributes) -> None:
        pass


_tracer: list[Tracer] = [NullTracer()]


def set_tracer(spans: Tracer) -> None:
    """
    Have this process's spans go to *spans*.
    """
    _tracer[0] = spans


def span(name: str, attributes: Attributes) -> AbstractContextManager[object]:
    """
    Begin a span.
    """
    return _tracer[0].span(name, attributes)


def describe(attributes: Attributes) -> None:
    """
    Say more of the span that lasts now.
    """
    _tracer[0].describe(attributes)


def event(name: str, attributes: Attributes) -> None:
    """
    Note an instant of the span that lasts now.
    """
    _tracer[0].event(name, attributes)


def attempt_attributes(
    claim: Claim, role: str, resumed_seq: int = 0
) -> dict[str, Value]:
    """
    Say whose attempt it is and after which save it goes on, as spans carry it.
    """
    return {
        "outlast.mission": claim.mission,
        "outlast.tenant": claim.tenant,
        "outlast.task": claim.task,
        "outlast.round": claim.round,
        "outlast.attempt": claim.attempt,
        "outlast.role": role,
        "outlast.resumed_seq": resumed_seq,
    }
