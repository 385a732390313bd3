"""
Counts of attempts: each worker collects its own and sends them to its parent.

A worker sends twice a second at most; what a killed one had not sent yet is lost. The
parent counts from its own start.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from outlast.contracts.failures import Detector
from outlast.fleet.messages import Counted
from outlast.telemetry.process import (
    DEAD_ITEMS,
    DEAD_TASKS,
    HEARTBEATS,
    PARKED,
    Counters,
)

COUNTER_NAMES = (HEARTBEATS, PARKED, DEAD_TASKS, DEAD_ITEMS)

# A worker sends after so many ticks of its event loop: one timer wakes it less often
# than two.
SEND_TICKS = 2

# Upper bounds of the recovery histogram, around the goals of each detector.
RECOVERY_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


class MetricsOutbox(Counters):
    """
    The worker's side: counts until it is emptied.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._recovered: list[tuple[Detector, float]] = []
        # A queue, which threads may put into while it is emptied.
        self._breakers: deque[tuple[str, str]] = deque()

    def count(self, name: str) -> None:
        self._counts[name] += 1

    def recovered(self, detected_by: Detector, recovery_s: float) -> None:
        self._recovered.append((detected_by, recovery_s))

    def breaker_changed(self, service: str, state: str) -> None:
        self._breakers.append((service, state))

    def drain(self) -> Counted | None:
        """
        Take what was counted since the last call; None when that is nothing.
        """
        breakers = [self._breakers.popleft() for _ in range(len(self._breakers))]
        if not (self._counts or self._recovered or breakers):
            return None
        counted = Counted(
            counts=dict(self._counts), recovered=self._recovered, breakers=breakers
        )
        self._counts, self._recovered = Counter(), []
        return counted


@dataclass
class Histogram:
    """
    How many recoveries took at most each of the bounds; the last bound is infinity.
    """

    buckets: list[int] = field(
        default_factory=lambda: [0] * (len(RECOVERY_BUCKETS_S) + 1)
    )
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(RECOVERY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)


@dataclass
class Metrics:
    """
    The parent's side. All names and detectors are there from the start, at zero, so
    that a rate has where to begin. Services come with the first change of their
    breaker.

    :param on_recovery: is given the detector and seconds of each recovery.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(COUNTER_NAMES, 0)
    )
    recoveries: dict[Detector, Histogram] = field(
        default_factory=lambda: {each: Histogram() for each in Detector}
    )
    # By service and the state that its breakers became.
    breakers: dict[str, Counter[str]] = field(default_factory=dict)
    on_recovery: Callable[[Detector, float], None] = lambda *_: None

    def add(self, counted: Counted) -> None:
        for name, count in counted.counts.items():
            self.counts[name] += count
        for service, state in counted.breakers:
            self.breakers.setdefault(service, Counter())[state] += 1
        for detector, recovery_s in counted.recovered:
            seconds = max(0.0, recovery_s)  # the clocks of two hosts may differ
            self.recoveries[detector].add(seconds)
            self.on_recovery(detector, seconds)

    def snapshot(self) -> dict[str, Any]:
        recoveries = {
            detector.value: {
                "count": seconds.count,
                "sum_s": round(seconds.sum_s, 3),
                "buckets": list(seconds.buckets),
            }
            for detector, seconds in self.recoveries.items()
        }
        breakers = {service: dict(each) for service, each in self.breakers.items()}
        return {**self.counts, "recoveries": recoveries, "breakers": breakers}
