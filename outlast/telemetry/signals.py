"""
Which telemetry the OTEL_* environment asks for.
"""

import logging
import os

TRACES, METRICS = "TRACES", "METRICS"

logger = logging.getLogger("outlast.process")


def is_enabled(signal: str) -> bool:
    if _variable("OTEL_SDK_DISABLED") == "true":
        return False
    exporter = _variable(f"OTEL_{signal}_EXPORTER")
    if exporter:
        return exporter == "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(_variable(name) for name in endpoints)


def enabled_signals() -> list[str]:
    return [signal for signal in (TRACES, METRICS) if is_enabled(signal)]


def can_send(signals: list[str]) -> bool:
    """
    Whether the protocol asked for is http/protobuf; a warning says that gRPC is not
    supported.
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
