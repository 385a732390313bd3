"""
What the fleet says of itself over HTTP, on loopback unless told otherwise.

    GET /live     200 while the parent lives
    GET /ready    200 once all its processes poll, else 503
    GET /health   JSON: each process with pid, kind, state, restarts, in hand, leaked,
                  last sign, breakers; and what the fleet waits for, since when
    GET /metrics  the same for Prometheus
"""

import json
from collections.abc import Callable, Iterator
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

from outlast.contracts.errors import BadInputError
from outlast.execution.circuit_breaker import BreakerState
from outlast.fleet.http_listener import HttpListener, Response
from outlast.fleet.metrics import RECOVERY_BUCKETS_S
from outlast.telemetry.counters import DEAD_ITEMS, DEAD_TASKS, HEARTBEATS, PARKED

Snapshot = Callable[[], dict[str, Any]]


class HealthServer:
    """
    An HTTP server in a thread of its own, so that it answers while the parent works.

    :param port: 0 for any free one.
    :raises BadInputError: when the port is in use.
    """

    def __init__(self, snapshot: Snapshot, host: str, port: int) -> None:
        try:
            self._listener = HttpListener(
                lambda path: page(path, snapshot()), host, port
            )
        except (OSError, OverflowError) as error:
            raise BadInputError(
                f"health cannot listen on {host}:{port}: {error}"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.port}/health"

    def close(self) -> None:
        """
        Stop listening.
        """
        self._listener.close()


def page(path: str, snapshot: dict[str, Any]) -> Response:
    """
    Make the page at *path* of what the fleet is now.
    """
    match path:
        case "/live":
            return Response(200, "text/plain", b"live\n")
        case "/ready":
            return Response(200 if snapshot["ready"] else 503, "text/plain", b"")
        case "/health":
            body = json.dumps(snapshot).encode()
            return Response(200, "application/json", body)
        case "/metrics":
            return Response(200, "text/plain; version=0.0.4", metrics(snapshot))
        case _:
            told = b"live, ready, health or metrics\n"
            return Response(404, "text/plain", told)


def metrics(snapshot: dict[str, Any]) -> bytes:
    """
    Render *snapshot* for Prometheus.
    """
    registry = CollectorRegistry()
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: dict[str, Any]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        return metric_families(self._snapshot)


def metric_families(snapshot: dict[str, Any]) -> Iterator[Metric]:
    """
    Make the metrics of *snapshot*, named as the log events are.
    """
    yield from _processes(snapshot["processes"])
    counts = snapshot["counts"]
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
        yield CounterMetricFamily(f"outlast_{name}", told, count)
    dead = CounterMetricFamily(
        "outlast_dead_letters", "tasks and items given up", labels=["of"]
    )
    dead.add_metric(["task"], counts[DEAD_TASKS])
    dead.add_metric(["item"], counts[DEAD_ITEMS])
    yield dead
    waits = max((each["since_s"] for each in snapshot["waits_for"]), default=0.0)
    told = "for how long the fleet has waited for its store; 0 while it does not"
    yield GaugeMetricFamily("outlast_store_wait_seconds", told, waits)
    yield from _recoveries(counts["recoveries"])
    yield from _breakers(snapshot["processes"], counts["breakers"])
    yield from _mesh(snapshot.get("mesh", {}))


def _mesh(counts: dict[str, Any]) -> Iterator[Metric]:
    """
    Make the metrics of a peer; none while its gossip process does not answer.
    """
    if "members" not in counts:
        return
    for name, told in [
        ("members", "peers alive as far as this one knows, itself included"),
        ("away", "peers that the mesh waits for"),
        ("events", "events in the log"),
        ("open", "tasks of the mesh without a result, as far as this one knows"),
        ("runs", "tasks of the mesh in hand"),
    ]:
        yield GaugeMetricFamily(f"outlast_mesh_{name}", told, counts[name])
    refused = "messages of peers that were not understood"
    yield CounterMetricFamily("outlast_mesh_refused", refused, counts["refused"])


def _processes(processes: list[dict[str, Any]]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "outlast_process_polling", "1 while it polls", labels=["kind", "pid"]
    )
    hand = GaugeMetricFamily(
        "outlast_attempts_in_flight", "attempts at work", labels=["kind", "pid"]
    )
    leaked = GaugeMetricFamily(
        "outlast_attempts_leaked",
        "calls that still run though their attempts are over",
        labels=["kind", "pid"],
    )
    for each in processes:
        labels = [each["kind"], str(each["pid"])]
        leaked.add_metric(labels, float(sum(one["calls"] for one in each["leaked"])))
        up.add_metric(labels, float(each["state"] == "polling"))
        hand.add_metric(labels, float(each["in_flight"]))
    yield up
    yield hand
    yield leaked


def _recoveries(recoveries: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "outlast_recoveries",
        "attempts that go on after another one has ended, by what noticed that",
        labels=["detector"],
    )
    seconds = HistogramMetricFamily(
        "outlast_recovery_seconds",
        "from the last sign of the attempt before to the start of the next",
        labels=["detector"],
    )
    bounds = [*map(str, RECOVERY_BUCKETS_S), "+Inf"]
    for detector, each in recoveries.items():
        total.add_metric([detector], each["count"])
        at_most = accumulate(each["buckets"])
        seconds.add_metric(
            [detector], [*zip(bounds, at_most, strict=True)], each["sum_s"]
        )
    yield total
    yield seconds


def _breakers(
    processes: list[dict[str, Any]], turned: dict[str, dict[str, int]]
) -> Iterator[Metric]:
    changes = CounterMetricFamily(
        "outlast_breaker_changes",
        "breakers of outside services that became this state",
        labels=["service", "state"],
    )
    for service, states in turned.items():
        for state, count in states.items():
            changes.add_metric([service, state], count)
    resting = GaugeMetricFamily(
        "outlast_breaker_open",
        "1 while the process leaves the service alone, but for a probe",
        labels=["service", "pid"],
    )
    for each in processes:
        for service, state in each["breakers"].items():
            rests = float(state != BreakerState.CLOSED)
            resting.add_metric([service, str(each["pid"])], rests)
    yield changes
    yield resting
