"""
Spans kept in memory, as a receiver would get them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from outlast.telemetry.process import Tracer as NoTracer
from outlast.telemetry.process import telemetry
from outlast.telemetry.temporal_tracing import OtelTracer


@dataclass
class Kept:
    """
    The spans that have ended. *theirs* is a tracer as an agent has one of its own,
    *ours* that of attempts.
    """

    theirs: Tracer
    ours: Tracer
    memory: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.memory.get_finished_spans()]

    def the(self, name: str) -> ReadableSpan:
        """
        Return the one span that is called *name*.
        """
        (found,) = (
            each for each in self.memory.get_finished_spans() if each.name == name
        )
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.the(name).attributes or {})

    def line(self, name: str) -> list[str]:
        """
        Name what the span called *name* is below, the nearest first.
        """
        every = {
            each.context.span_id: each for each in self.memory.get_finished_spans()
        }
        found = []
        parent = self.the(name).parent
        while parent is not None:
            above = every[parent.span_id]
            found.append(above.name)
            parent = above.parent
        return found

    def above(self, name: str) -> str | None:
        """
        Name the span that the one called *name* is below.
        """
        return next(iter(self.line(name)), None)


@contextmanager
def kept() -> Iterator[Kept]:
    """
    Have this process's spans kept.
    """
    provider = TracerProvider()
    made = Kept(provider.get_tracer("theirs"), provider.get_tracer("ours"))
    provider.add_span_processor(SimpleSpanProcessor(made.memory))
    telemetry.tracer = OtelTracer(made.ours)
    try:
        yield made
    finally:
        telemetry.tracer = NoTracer()
