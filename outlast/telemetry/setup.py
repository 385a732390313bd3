"""
Telemetry, where the OTEL_* environment asks for it: silent and free otherwise.

Nothing of OpenTelemetry is imported before it is asked for. `start_telemetry` starts
threads, so it is for processes that fork no more: never for a zygote. Telemetry is
never why work stops: what is wrong with it is said in one line.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outlast.telemetry.otlp import OtlpPipeline

TRACES = "TRACES"
METRICS = "METRICS"

# How long an end may wait for the receiver.
FLUSH_S = 0.3

logger = logging.getLogger("outlast.process")

_pipelines: list["OtlpPipeline"] = []


def is_enabled(signal: str) -> bool:
    """
    Say whether the environment asks for *signal*, TRACES or METRICS.
    """
    if _variable("OTEL_SDK_DISABLED") == "true":
        return False
    exporter = _variable(f"OTEL_{signal}_EXPORTER")
    if exporter:
        return exporter == "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(_variable(name) for name in endpoints)


def start_telemetry(kind: str, spans_file: Path | None = None) -> None:
    """
    Send what the environment asks for, as the process *kind*.

    :param spans_file: where to note open spans, read once this process is dead.
    """
    signals = [signal for signal in (TRACES, METRICS) if is_enabled(signal)]
    if not signals or _pipelines or not _protocol_supported(signals):
        return
    try:
        from outlast.telemetry.otlp import OtlpPipeline

        _pipelines.append(OtlpPipeline(kind, signals, spans_file))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        logger.warning("telemetry.off: %s", error)


def stop_telemetry() -> None:
    """
    Send what is left, as far as the receiver takes it in time.
    """
    closing = [
        threading.Thread(target=provider.shutdown, daemon=True)
        for sending in _pipelines
        for provider in sending.providers
    ]
    _pipelines.clear()
    deadline = time.monotonic() + FLUSH_S
    for each in closing:
        each.start()
    for each in closing:
        each.join(max(0.0, deadline - time.monotonic()))


def preload_otlp() -> None:
    """
    Import what `start_telemetry` needs, without a thread: in a zygote, before it forks.
    """
    if is_enabled(TRACES) or is_enabled(METRICS):
        try:
            from outlast.telemetry.otlp import preload as load

            load()
        except (ImportError, RuntimeError, ValueError) as error:
            logger.debug(
                "telemetry.not_preloaded: %s", error
            )  # `start_telemetry` will say it


def interceptors() -> list[Any]:
    """
    Make what a Temporal client needs for one trace through all processes.

    Not only after `start_telemetry`: who starts missions from a program of their own
    may have set up OpenTelemetry themselves.
    """
    if not is_enabled(TRACES):
        return []
    try:
        from outlast.telemetry.temporal_tracing import TemporalTracing
    except (ImportError, ValueError) as error:
        logger.debug("telemetry.not_traced: %s", error)
        return []
    return [TemporalTracing()]


def export_crash_spans(spans_file: Path, cause: str) -> None:
    """
    End the spans that a process, dead of *cause*, had under way.
    """
    for sending in _pipelines:
        sending.export_crash_spans(spans_file, cause)


def metrics_enabled() -> bool:
    """
    Say whether metrics are sent from here.
    """
    return any(METRICS in sending.signals for sending in _pipelines)


def _protocol_supported(signals: list[str]) -> bool:
    """
    Say whether what is asked for is what we speak; gRPC is not.
    """
    names = [f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL" for signal in signals]
    for name in [*names, "OTEL_EXPORTER_OTLP_PROTOCOL"]:
        if _variable(name) not in ("", "http/protobuf"):
            told = "only http/protobuf is spoken here"
            logger.warning("telemetry.off: %s=%s, %s", name, _variable(name), told)
            return False
    return True


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()
