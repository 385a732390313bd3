"""
An OTLP receiver: takes what is sent by HTTP and keeps it to be read.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Seen:
    """
    A span as it was received, with the attributes of its process.
    """

    trace: str
    id: str
    parent: str
    name: str
    error: str | None
    began: int
    ended: int
    attributes: dict[str, Any]
    events: list[str]
    process: dict[str, Any]

    @property
    def pid(self) -> int:
        return int(self.process["process.pid"])


@dataclass
class Receiver:
    """
    What has come so far: every span, and of each number what was said of it last.
    """

    url: str
    spans: list[Seen] = field(default_factory=list)
    numbers: dict[tuple[str, str], float] = field(default_factory=dict)

    def named(self, name: str) -> list[Seen]:
        return [each for each in self.spans if each.name == name]

    def number(self, name: str, label: str = "") -> float | None:
        """
        Read a counter or gauge, or how many a histogram has, by the value of its label.
        """
        return self.numbers.get((name, label))

    def take_spans(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _read(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_seen(each, process) for each in scope.spans]

    def take_metrics(self, body: bytes) -> None:
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    self.numbers.update(_numbers(metric))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """
    Receive on a free port of this machine.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            take = {
                "/v1/traces": receiver.take_spans,
                "/v1/metrics": receiver.take_metrics,
            }
            take[self.path](body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()


def _seen(span: trace_pb2.Span, process: dict[str, Any]) -> Seen:
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return Seen(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        error=span.status.message if failed else None,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_read(span.attributes),
        events=[each.name for each in span.events],
        process=process,
    )


def _numbers(metric: Metric) -> Iterator[tuple[tuple[str, str], float]]:
    """
    Read the points of *metric*, each by the values of its labels.
    """
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        label = " ".join(map(str, _read(point.attributes).values()))
        if kind == "histogram":
            yield (metric.name, label), point.count
        else:
            yield (metric.name, label), getattr(point, point.WhichOneof("value"))


def _read(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
