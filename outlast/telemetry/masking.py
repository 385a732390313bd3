"""
Spans without secrets: agents' errors are noted in them as they were raised, and
libraries note the addresses that they ask.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status

from outlast.secrets import are_known, masked_head


class MaskingExporter(SpanExporter):
    """
    Sends spans by *exporter*, with the secrets of this process masked in their texts.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        masked = [masked_span(each) for each in spans] if are_known() else spans
        return self._exporter.export(masked)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def masked_span(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    return ReadableSpan(
        name=masked_head(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=masked_attributes(span.attributes),
        events=[
            Event(
                masked_head(each.name),
                masked_attributes(each.attributes),
                each.timestamp,
            )
            for each in span.events
        ],
        links=[
            Link(each.context, masked_attributes(each.attributes))
            for each in span.links
        ],
        kind=span.kind,
        status=Status(status.status_code, _masked(status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def masked_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _masked(value) for name, value in (attributes or {}).items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked_head(value)
    if isinstance(value, list | tuple):
        return tuple(map(_masked, value))
    return value
