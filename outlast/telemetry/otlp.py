"""
Spans and metrics on their way to an OTLP receiver, by HTTP.

Imported only where the environment asks for telemetry. Everything here is as the
OTEL_* variables say, but for a short delay: a killed process takes along what it has
not sent yet.
"""

import logging
import os
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from outlast.contracts.text import one_line
from outlast.telemetry.crash_spans import OpenSpanRecorder, recover_open_spans
from outlast.telemetry.masking import MaskingExporter
from outlast.telemetry.process import Tracer
from outlast.telemetry.signals import METRICS, TRACES
from outlast.telemetry.temporal_tracing import OtelTracer

# How long an ended span waits for others before they are sent together.
OTLP_DELAY_MS = 200.0
OTLP_DELAY = "OTEL_BSP_SCHEDULE_DELAY"

OTLP_ERROR_CHARS = 300

# They complain of a receiver that is away.
OTLP_LOGGERS = (
    "opentelemetry.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
)

logger = logging.getLogger("outlast.process")


class OtlpPipeline:
    def __init__(self, kind: str, signals: list[str], spans_file: Path | None) -> None:
        self.signals = signals
        self.providers: list[TracerProvider | MeterProvider] = []
        self.tracer = Tracer()
        self._ended: BatchSpanProcessor | None = None
        _log_errors_once()
        resource = _resource(kind)
        # All is made, and may be refused, before any of it is put to use.
        noted = (
            OpenSpanRecorder(spans_file, resource)
            if spans_file and TRACES in signals
            else None
        )
        tracers = self._tracers(resource, noted) if TRACES in signals else None
        meters = self._meters(resource) if METRICS in signals else None
        if tracers is not None:
            trace.set_tracer_provider(tracers)
            self.tracer = OtelTracer(tracers.get_tracer("outlast"), noted)
        if meters is not None:
            metrics.set_meter_provider(meters)

    def export_crash_spans(self, spans_file: Path, cause: str) -> None:
        if self._ended is not None:
            for each in recover_open_spans(spans_file, cause):
                self._ended.on_end(each)

    def _tracers(
        self, resource: Resource, noted: OpenSpanRecorder | None
    ) -> TracerProvider:
        made = TracerProvider(resource=resource, shutdown_on_exit=False)
        delay_ms = None if OTLP_DELAY in os.environ else OTLP_DELAY_MS
        self._ended = BatchSpanProcessor(
            MaskingExporter(OTLPSpanExporter()), schedule_delay_millis=delay_ms
        )
        made.add_span_processor(self._ended)
        if noted is not None:
            made.add_span_processor(noted)
        self.providers.append(made)
        return made

    def _meters(self, resource: Resource) -> MeterProvider:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        made = MeterProvider([reader], resource, shutdown_on_exit=False)
        self.providers.append(made)
        return made


def preload() -> None:
    """
    Have the exporters import what they import when they are made.
    """
    OTLPSpanExporter()


def _resource(kind: str) -> Resource:
    """
    Name the sender; what the environment says wins.
    """
    host, pid = socket.gethostname(), os.getpid()
    ours: dict[str, str | int] = {
        "service.name": "outlast",
        "service.version": _version(),
        "service.instance.id": f"{pid}@{host}:{kind}",
        "host.name": host,
        "process.pid": pid,
        "outlast.process": kind,
    }
    told = OTELResourceDetector().detect().attributes or {}
    unsaid = {name: value for name, value in ours.items() if name not in told}
    return Resource.create(unsaid)


def _version() -> str:
    try:
        return version("outlast")
    except PackageNotFoundError:
        return "source"  # run from a checkout


class _LogOnce(logging.Handler):
    logged = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.logged:
            self.logged = True
            words = one_line(record.getMessage(), OTLP_ERROR_CHARS)
            logger.warning("telemetry.unsent: %s", words)


def _log_errors_once() -> None:
    """
    Let a receiver that is away cost one line, however often that is noticed.
    """
    once = _LogOnce(logging.WARNING)
    for name in OTLP_LOGGERS:
        sender = logging.getLogger(name)
        sender.addHandler(once)
        sender.propagate = False
