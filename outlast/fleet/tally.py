"""
What the workers' attempts are counted for, from each worker to its parent's page.

A worker keeps its counts for a moment and tells them together; what a killed one had
not told yet is lost. The parent counts from its own start.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from outlast.attempt.counts import (
    BEATS,
    DEAD_ITEMS,
    DEAD_TASKS,
    FAILED_BEFORE,
    PARKED,
)

NAMES = (BEATS, PARKED, DEAD_TASKS, DEAD_ITEMS)

# A worker tells after so many ticks of its event loop: one timer wakes it less often
# than two.
TELL_TICKS = 2

# Upper bounds of the recovery histogram, around the goals of each rung.
BOUNDS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)

# The ladder: by what an end was noticed, the fastest first.
EXIT_REPORT = "exit_report"
WATCHDOG = "watchdog"
HEARTBEAT = "heartbeat"
DEADLINE = "deadline"  # over the attempt limit
FAILURE = "failure"  # the agent raised or stalled; after the back-off
# Handed on, nothing was wrong: its worker was stopped, or of a release too old.
DRAIN = "drain"
UNREAD = "unread"
OVERTAKEN = "overtaken"
OTHER = "other"
RUNGS = (
    EXIT_REPORT,
    WATCHDOG,
    HEARTBEAT,
    DEADLINE,
    FAILURE,
    DRAIN,
    UNREAD,
    OVERTAKEN,
    OTHER,
)

# By how the words begin in which an attempt is told what ended the one before. The
# watchdog's come with an exit report like any other death's.
_WORDS = {
    "exit report: stopped for": WATCHDOG,
    "exit report: silent and": WATCHDOG,
    "exit report: memory over": WATCHDOG,
    "exit report: it lives but polls nothing": WATCHDOG,
    "exit report: ": EXIT_REPORT,
    "heartbeat timeout": HEARTBEAT,
    "timed out: ": DEADLINE,
    FAILED_BEFORE: FAILURE,
    "the worker drained": DRAIN,
    "not read: ": UNREAD,
}


def rung_of(noticed_by: str) -> str:
    """
    Say on which rung of the ladder an end was noticed.
    """
    for words, rung in _WORDS.items():
        if noticed_by.startswith(words):
            return rung
    return OVERTAKEN if "a later attempt" in noticed_by else OTHER


class Outbox:
    """
    The worker's side: counts until it is emptied.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._recovered: list[tuple[str, float]] = []
        # A queue, which threads may put into while it is emptied.
        self._breakers: deque[tuple[str, str]] = deque()

    def count(self, name: str) -> None:
        self._counts[name] += 1

    def recovered(self, noticed_by: str, after_s: float) -> None:
        self._recovered.append((noticed_by, after_s))

    def breaker_turned(self, service: str, state: str) -> None:
        self._breakers.append((service, state))

    def empty(self) -> dict[str, Any]:
        """
        Take out what has been counted since the last time; {} when that is nothing.
        """
        breakers = [self._breakers.popleft() for _ in range(len(self._breakers))]
        if not (self._counts or self._recovered or breakers):
            return {}
        told = {
            "counts": dict(self._counts),
            "recovered": self._recovered,
            "breakers": breakers,
        }
        self._counts, self._recovered = Counter(), []
        return told


@dataclass
class Seconds:
    """
    A histogram: how many lay at or under each bound, the last one being endless.
    """

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)


def _nowhere(rung: str, seconds: float) -> None:
    """
    Where recoveries go when nobody else wants them.
    """


@dataclass
class Tally:
    """
    The parent's side. All names and rungs are there from the start, at zero: a page
    that is read meanwhile never sees one come, and a rate has where to begin. Services
    come with the first change of their breaker.

    :param recovered: hears the rung and seconds of each recovery.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    recoveries: dict[str, Seconds] = field(
        default_factory=lambda: {rung: Seconds() for rung in RUNGS}
    )
    # By service and the state that its breakers became.
    breakers: dict[str, Counter[str]] = field(default_factory=dict)
    recovered: Callable[[str, float], None] = _nowhere

    def add(self, told: dict[str, Any]) -> None:
        """
        Add what a worker's outbox has told.
        """
        for name, count in told["counts"].items():
            self.counts[name] += count
        for service, state in told["breakers"]:
            self.breakers.setdefault(service, Counter())[state] += 1
        for noticed_by, after_s in told["recovered"]:
            # The clocks of two hosts may differ.
            rung, seconds = rung_of(noticed_by), max(0.0, after_s)
            self.recoveries[rung].add(seconds)
            self.recovered(rung, seconds)

    def shown(self) -> dict[str, Any]:
        """
        Say it all, as `GET /health` shows it.
        """
        recoveries = {
            rung: {
                "count": seconds.count,
                "sum_s": round(seconds.sum_s, 3),
                "buckets": list(seconds.buckets),
            }
            for rung, seconds in self.recoveries.items()
        }
        breakers = {service: dict(each) for service, each in self.breakers.items()}
        return {**self.counts, "recoveries": recoveries, "breakers": breakers}
