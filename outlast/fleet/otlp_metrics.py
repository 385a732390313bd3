"""
The numbers of `GET /metrics` for an OTLP receiver too: same names, same counts.

Imported only where the environment asks for metrics.
"""

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from outlast.fleet.health_http import Snapshot, metric_families
from outlast.fleet.metrics import RECOVERY_BUCKETS_S, Metrics

RECOVERY_METRIC = "outlast_recovery_seconds"

Observe = Callable[[CallbackOptions], Iterable[Observation]]


def register_metrics(snapshot: Snapshot, tally: Metrics) -> None:
    """
    Have the numbers of *snapshot* read whenever metrics are sent, and each recovery
    of *tally* recorded as it comes.
    """
    meter = metrics.get_meter("outlast")
    make: dict[str, Callable[..., Any]] = {
        "counter": meter.create_observable_counter,
        "gauge": meter.create_observable_gauge,
    }
    for family in metric_families(snapshot()):
        if family.type in make:
            observe = _observing(snapshot, family.name)
            make[family.type](family.name, [observe], description=family.documentation)
    seconds = meter.create_histogram(
        RECOVERY_METRIC,
        unit="s",
        description="from the last sign of the lost attempt to the start of the next",
        explicit_bucket_boundaries_advisory=RECOVERY_BUCKETS_S,
    )
    tally.recovered = lambda detector, after_s: seconds.record(
        after_s, {"detector": detector.value}
    )


def _observing(snapshot: Snapshot, name: str) -> Observe:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for family in metric_families(snapshot()):
            if family.name == name:
                for sample in family.samples:
                    yield Observation(sample.value, sample.labels)

    return observe
