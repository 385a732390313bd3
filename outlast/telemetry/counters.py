"""
What is counted of attempts.
"""

from outlast.contracts.failures import Detector
from outlast.telemetry.process import telemetry

HEARTBEATS = "heartbeats"  # signs of life that were sent
PARKED = "parked"  # tasks that ended parked
DEAD_TASKS = "dead_tasks"
DEAD_ITEMS = "dead_items"

# Said of an attempt that the server retries, where others carry a cause.
FAILED_BEFORE = "the attempt before failed"


def count(name: str) -> None:
    telemetry.counters.count(name)


def recovered(detected_by: Detector, recovery_s: float) -> None:
    telemetry.counters.recovered(detected_by, recovery_s)


def breaker_changed(service: str, state: str) -> None:
    telemetry.counters.breaker_changed(service, state)
