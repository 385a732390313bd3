"""
Telemetry, where the OTEL_* environment asks for it: silent and free otherwise.

Nothing of OpenTelemetry is imported before it is asked for. `start_telemetry` starts
threads, so it is for processes that fork no more: never for a fork server. Telemetry is
never why work stops: a fault in it costs one warning.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from outlast.telemetry.process import telemetry
from outlast.telemetry.signals import (
    METRICS,
    TRACES,
    can_send,
    enabled_signals,
    is_enabled,
)

# How long an end may wait for the receiver.
FLUSH_S = 0.3

logger = logging.getLogger("outlast.process")


def start_telemetry(kind: str, spans_file: Path | None = None) -> None:
    """
    Send what the environment asks for, as the process *kind*.

    :param spans_file: where to note open spans, read once this process is dead.
    """
    signals = enabled_signals()
    if not signals or telemetry.pipeline or not can_send(signals):
        return
    try:
        from outlast.telemetry.otlp import OtlpPipeline

        telemetry.pipeline = OtlpPipeline(kind, signals, spans_file)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        logger.warning("telemetry.off: %s", error)
    else:
        telemetry.tracer = telemetry.pipeline.tracer


def stop_telemetry() -> None:
    """
    Send what is left, as far as the receiver takes it in time.
    """
    pipeline, telemetry.pipeline = telemetry.pipeline, None
    providers = pipeline.providers if pipeline else []
    closing = [
        threading.Thread(target=each.shutdown, daemon=True) for each in providers
    ]
    deadline = time.monotonic() + FLUSH_S
    for each in closing:
        each.start()
    for each in closing:
        each.join(max(0.0, deadline - time.monotonic()))


def preload_otlp() -> None:
    """
    Import what `start_telemetry` needs, without a thread: in a fork server.
    """
    if enabled_signals():
        try:
            from outlast.telemetry.otlp import preload

            preload()
        except (ImportError, RuntimeError, ValueError) as error:
            # `start_telemetry` will warn of it
            logger.debug("telemetry.not_preloaded: %s", error)


def interceptors() -> list[Any]:
    """
    Make what a Temporal client needs for one trace through all processes.

    Not only after `start_telemetry`: a user's program that starts missions may have set
    up OpenTelemetry itself.
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
    if telemetry.pipeline:
        telemetry.pipeline.export_crash_spans(spans_file, cause)


def metrics_enabled() -> bool:
    return telemetry.pipeline is not None and METRICS in telemetry.pipeline.signals
