"""
The metrics of a fleet for Prometheus and for an OTLP receiver: same names, same
numbers, named as the log events are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from outlast.fleet.metrics import RECOVERY_BUCKETS_S, Metrics
from outlast.ledger.circuit_decision import CircuitState
from outlast.telemetry.process import DEAD_ITEMS, DEAD_TASKS, HEARTBEATS, PARKED

Snapshot = Callable[[], dict[str, Any]]
# A number, or one for each of the values of some labels.
Numbers = float | Mapping[Any, float]


def prometheus_page(snapshot: dict[str, Any]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: dict[str, Any]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        return metric_families(self._snapshot)


def register_metrics(snapshot: Snapshot, metrics: Metrics) -> None:
    """
    Have the numbers of *snapshot* read whenever OTLP metrics are sent, and each
    recovery of *metrics* recorded as it comes.
    """
    from opentelemetry.metrics import CallbackOptions, Observation, get_meter

    def observing(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for family in metric_families(snapshot()):
                if family.name == name:
                    for sample in family.samples:
                        yield Observation(sample.value, sample.labels)

        return observe

    meter = get_meter("outlast")
    make: dict[str, Callable[..., Any]] = {
        "counter": meter.create_observable_counter,
        "gauge": meter.create_observable_gauge,
    }
    for family in metric_families(snapshot()):
        if family.type in make:
            observe, told = observing(family.name), family.documentation
            make[family.type](family.name, [observe], description=told)
    seconds = meter.create_histogram(
        "outlast_recovery_seconds",
        unit="s",
        description="from the last sign of the lost attempt to the start of the next",
        explicit_bucket_boundaries_advisory=RECOVERY_BUCKETS_S,
    )
    metrics.on_recovery = lambda detector, after_s: seconds.record(
        after_s, {"detector": detector.value}
    )


def metric_families(snapshot: dict[str, Any]) -> Iterator[Metric]:
    yield from _processes(snapshot["processes"])
    yield from _counts(snapshot, snapshot["counts"])
    waits = max((each["since_s"] for each in snapshot["waits_for"]), default=0.0)
    told = "for how long the fleet has waited for its store; 0 while it does not"
    yield _gauge("store_wait_seconds", told, waits)
    yield from _recoveries(snapshot["counts"]["recoveries"])
    yield from _mesh(snapshot.get("mesh", {}))


def _gauge(name: str, told: str, numbers: Numbers, labels: str = "") -> Metric:
    family = GaugeMetricFamily(f"outlast_{name}", told, labels=labels.split())
    return _filled(family, numbers)


def _counter(name: str, told: str, numbers: Numbers, labels: str = "") -> Metric:
    family = CounterMetricFamily(f"outlast_{name}", told, labels=labels.split())
    return _filled(family, numbers)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, numbers: Numbers
) -> Metric:
    by_labels = numbers if isinstance(numbers, Mapping) else {(): numbers}
    for values, number in by_labels.items():
        family.add_metric(values, float(number))
    return family


def _processes(processes: list[dict[str, Any]]) -> Iterator[Metric]:
    of = {(each["kind"], str(each["pid"])): each for each in processes}
    polling = {key: each["state"] == "polling" for key, each in of.items()}
    yield _gauge("process_polling", "1 while it polls", polling, "kind pid")
    at_work = {key: each["in_flight"] for key, each in of.items()}
    yield _gauge("attempts_in_flight", "attempts at work", at_work, "kind pid")
    leaked = {
        key: sum(one["calls"] for one in each["leaked"]) for key, each in of.items()
    }
    told = "calls that still run though their attempts are over"
    yield _gauge("attempts_leaked", told, leaked, "kind pid")
    open_breakers = {
        (service, str(each["pid"])): state != CircuitState.CLOSED
        for each in processes
        for service, state in each["breakers"].items()
    }
    told = "1 while the process leaves the service alone, but for a probe"
    yield _gauge("breaker_open", told, open_breakers, "service pid")


def _counts(snapshot: dict[str, Any], counts: dict[str, Any]) -> Iterator[Metric]:
    for name, told, count in [
        ("restarts", "processes started again", snapshot["restarts"]),
        ("attempts_reported", "attempts ended by an exit report", snapshot["reported"]),
        (
            "watchdog_kills",
            "processes killed by the watchdog",
            snapshot["watchdog_kills"],
        ),
        ("heartbeats", "signs of life that attempts have sent", counts[HEARTBEATS]),
        ("parked", "tasks that wait for a person or a capacity", counts[PARKED]),
    ]:
        yield _counter(name, told, count)
    dead = {("task",): counts[DEAD_TASKS], ("item",): counts[DEAD_ITEMS]}
    yield _counter("dead_letters", "tasks and items given up", dead, "of")
    changes = {
        (service, state): count
        for service, states in counts["breakers"].items()
        for state, count in states.items()
    }
    told = "breakers of outside services that became this state"
    yield _counter("breaker_changes", told, changes, "service state")


def _recoveries(recoveries: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    counts = {(detector,): each["count"] for detector, each in recoveries.items()}
    told = "attempts that go on after another one has ended, by what noticed that"
    yield _counter("recoveries", told, counts, "detector")
    seconds = HistogramMetricFamily(
        "outlast_recovery_seconds",
        "from the last sign of the attempt before to the start of the next",
        labels=["detector"],
    )
    bounds = [*map(str, RECOVERY_BUCKETS_S), "+Inf"]
    for detector, each in recoveries.items():
        at_most = zip(bounds, accumulate(each["buckets"]), strict=True)
        seconds.add_metric([detector], [*at_most], each["sum_s"])
    yield seconds


def _mesh(counts: dict[str, Any]) -> Iterator[Metric]:
    """
    Yield the metrics of a peer; none while its gossip process does not answer.
    """
    if "members" not in counts:
        return
    for name, told in [
        ("members", "peers alive as far as this one knows, itself included"),
        ("away", "peers that the mesh waits for"),
        ("events", "events in the log"),
        ("open", "tasks of the mesh without a result, as far as this one knows"),
        ("runs", "tasks of the mesh under way here"),
    ]:
        yield _gauge(f"mesh_{name}", told, counts[name])
    refused = "messages of peers that were not understood"
    yield _counter("mesh_refused", refused, counts["refused"])
