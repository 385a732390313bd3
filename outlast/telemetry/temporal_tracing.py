"""
Our spans as OpenTelemetry's, and Temporal's own ones around them.

One trace for one mission: its context travels in Temporal's headers from the starter
to the workflow, from there to each attempt. Imported only where traces are wanted.
"""

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace
from temporalio.client import OutboundInterceptor, QueryWorkflowInput
from temporalio.contrib.opentelemetry import TracingInterceptor

from outlast.telemetry.crash_spans import OpenSpanRecorder
from outlast.telemetry.process import Attributes, Tracer


class OtelTracer(Tracer):
    """
    Attempts' spans, made by *tracer*; *noted* keeps those under way for the case of a
    death.
    """

    def __init__(
        self, tracer: trace.Tracer, noted: OpenSpanRecorder | None = None
    ) -> None:
        self._tracer = tracer
        self._noted = noted

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[object]:
        return self._tracer.start_as_current_span(name, attributes=attributes)

    def describe(self, attributes: Attributes) -> None:
        current = trace.get_current_span()
        current.set_attributes(attributes)
        if self._noted is not None:
            self._noted.add(current)

    def event(self, name: str, attributes: Attributes) -> None:
        trace.get_current_span().add_event(name, attributes)


class TemporalTracing(TracingInterceptor):
    """
    Temporal's spans, but none for queries: a starter asks four times a second.
    """

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        return _UntracedQueries(super().intercept_client(next), next)


class _UntracedQueries(OutboundInterceptor):
    def __init__(self, traced: OutboundInterceptor, plain: OutboundInterceptor) -> None:
        super().__init__(traced)
        self._plain = plain

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:  # noqa: A002
        return await self._plain.query_workflow(input)
