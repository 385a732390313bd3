"""
Counts of attempts: from a worker's outbox to its parent's page, sorted by rung.
"""

from typing import Any

import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from temporalio.exceptions import ActivityError, RetryState, TimeoutType
from temporalio.exceptions import TimeoutError as TimedOut

from outlast.attempt.counts import BEATS, DEAD_ITEMS, DEAD_TASKS, FAILED_BEFORE, PARKED
from outlast.contracts.errors import CRASHED
from outlast.fleet.exits import Exit, cause_of
from outlast.fleet.health import metrics
from outlast.fleet.meters import measure
from outlast.fleet.report import _crashed
from outlast.fleet.tally import (
    DEADLINE,
    DRAIN,
    EXIT_REPORT,
    FAILURE,
    HEARTBEAT,
    NAMES,
    OTHER,
    OVERTAKEN,
    RUNGS,
    UNREAD,
    WATCHDOG,
    Outbox,
    Tally,
    rung_of,
)
from outlast.fleet.watchdog import Sight, Watchdog
from outlast.fleet.wreck import InHand
from outlast.workflows.verdict import judge


def told(cause: str) -> str:
    """
    Say *cause* as the next attempt hears it of the exit report.
    """
    hand = InHand(b"", "m", "t", "r", 1, None)
    error = _crashed(hand, Exit(cause))
    assert error.type == CRASHED
    return error.message


@pytest.mark.parametrize("code", [None, 0, 1, 3, -9, -11, -40])
def test_a_death_is_noticed_by_the_exit_report(code: int | None) -> None:
    """
    Whatever it died of, as long as nobody had to kill it.
    """
    assert rung_of(told(cause_of(code))) == EXIT_REPORT


@pytest.mark.parametrize(
    ("stopped", "cpu_s", "memory"),
    [(True, 0.0, 0), (False, 0.0, 0), (False, 9.0, 0), (False, 0.0, 200)],
    ids=["stopped", "idle", "busy", "memory"],
)
def test_what_the_watchdog_kills_is_its_own(
    stopped: bool, cpu_s: float, memory: int
) -> None:
    """
    It comes with an exit report too, but this is not what noticed it.
    """
    watchdog = Watchdog(memory_cap=100)
    watchdog.judge(10.0, Sight(10.0, 0.0, stopped, 0))
    # Look by look, so that the watchdog trusts its own clock.
    looks = [10.0 + 0.1 * look for look in range(90)]
    judged = (
        watchdog.judge(now, Sight(10.0, min(now - 10.0, cpu_s), stopped, memory))
        for now in looks
    )
    reason = next(filter(None, judged))
    assert rung_of(told(reason)) == WATCHDOG


def test_a_mute_worker_is_the_watchdogs() -> None:
    """
    It lived, and was killed because it polled nothing.
    """
    assert rung_of(told("it lives but polls nothing")) == WATCHDOG


@pytest.mark.parametrize(
    ("words", "rung"),
    [
        ("exit report: its fleet was lost", EXIT_REPORT),
        ("the worker drained", DRAIN),
        ("not read: state of schema 9", UNREAD),
        ("m/t: a later attempt has claimed it", OVERTAKEN),
        (FAILED_BEFORE, FAILURE),
        ("something new", OTHER),
    ],
)
def test_every_end_has_its_rung(words: str, rung: str) -> None:
    """
    What nobody knows is counted all the same.
    """
    assert rung_of(words) == rung


@pytest.mark.parametrize(
    ("kind", "rung"),
    [(TimeoutType.HEARTBEAT, HEARTBEAT), (TimeoutType.START_TO_CLOSE, DEADLINE)],
)
def test_a_timeout_has_the_workflows_words(kind: TimeoutType, rung: str) -> None:
    """
    The next attempt is told what the workflow made of it.
    """
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="1@host",
        activity_type="worker",
        activity_id="a~attempt~worker~1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    error.__cause__ = TimedOut("too long", type=kind, last_heartbeat_details=[])
    assert rung_of(judge(error).cause) == rung


def test_an_outbox_tells_each_thing_once() -> None:
    """
    What was told is not told again, and nothing is told when there is nothing.
    """
    outbox = Outbox()
    assert outbox.empty() == {}
    outbox.count(BEATS)
    outbox.count(BEATS)
    outbox.recovered("heartbeat timeout", 1.5)
    outbox.breaker_turned("model", "open")
    assert outbox.empty() == {
        "counts": {BEATS: 2},
        "recovered": [("heartbeat timeout", 1.5)],
        "breakers": [("model", "open")],
    }
    assert outbox.empty() == {}


@pytest.fixture
def tally() -> Tally:
    """
    What two workers have told.
    """
    made = Tally()
    made.add({"counts": {BEATS: 3, PARKED: 1}, "recovered": [], "breakers": []})
    made.add(
        {
            "counts": {BEATS: 2, DEAD_TASKS: 4, DEAD_ITEMS: 5},
            "recovered": [
                [told("killed by SIGKILL"), 0.04],
                [told("killed by SIGKILL"), 0.05],
                ["heartbeat timeout", 1.7],
                ["the worker drained", -0.2],
            ],
            "breakers": [["model", "open"], ["model", "closed"], ["model", "open"]],
        }
    )
    return made


def snapshot(tally: Tally) -> dict[str, Any]:
    process = {
        "kind": "agents",
        "pid": 7,
        "state": "polling",
        "in_hand": 2,
        "leaked": [{"mission": "m", "task": "t", "calls": 3}],
        "breakers": {"model": "open", "payments": "closed"},
    }
    return {
        "processes": [process],
        "restarts": 6,
        "reported": 2,
        "bites": 1,
        "waits_for": [{"what": "store", "why": "full", "since_s": 2.5}],
        "counts": tally.shown(),
    }


@pytest.mark.parametrize(
    "line",
    [
        'outlast_process_polling{kind="agents",pid="7"} 1.0',
        'outlast_attempts_in_hand{kind="agents",pid="7"} 2.0',
        'outlast_attempts_leaked{kind="agents",pid="7"} 3.0',
        "outlast_restarts_total 6.0",
        "outlast_attempts_reported_total 2.0",
        "outlast_watchdog_bites_total 1.0",
        "outlast_beats_total 5.0",
        "outlast_store_wait_seconds 2.5",
        "outlast_parked_total 1.0",
        'outlast_dead_letters_total{of="task"} 4.0',
        'outlast_dead_letters_total{of="item"} 5.0',
        'outlast_recoveries_total{rung="exit_report"} 2.0',
        'outlast_recoveries_total{rung="heartbeat"} 1.0',
        'outlast_recoveries_total{rung="watchdog"} 0.0',
        'outlast_recovery_seconds_bucket{le="0.05",rung="exit_report"} 2.0',
        'outlast_recovery_seconds_bucket{le="1.5",rung="heartbeat"} 0.0',
        'outlast_recovery_seconds_bucket{le="2.0",rung="heartbeat"} 1.0',
        'outlast_recovery_seconds_bucket{le="+Inf",rung="heartbeat"} 1.0',
        'outlast_recovery_seconds_count{rung="heartbeat"} 1.0',
        'outlast_recovery_seconds_sum{rung="heartbeat"} 1.7',
        'outlast_recovery_seconds_sum{rung="drain"} 0.0',
        'outlast_breaker_changes_total{service="model",state="open"} 2.0',
        'outlast_breaker_changes_total{service="model",state="closed"} 1.0',
        'outlast_breaker_resting{pid="7",service="model"} 1.0',
        'outlast_breaker_resting{pid="7",service="payments"} 0.0',
    ],
)
def test_the_page_shows_what_was_told(tally: Tally, line: str) -> None:
    """
    Bounds are inclusive; two hosts' clocks make no negative seconds.
    """
    assert line in metrics(snapshot(tally)).decode().splitlines()


def test_every_name_is_there_from_the_start() -> None:
    """
    A rate needs a zero to begin at: nothing appears only once it has happened.
    """
    page = metrics(snapshot(Tally())).decode()
    for rung in RUNGS:
        assert f'outlast_recoveries_total{{rung="{rung}"}} 0.0' in page
    assert set(Tally().shown()) == {*NAMES, "recoveries", "breakers"}


def test_a_receiver_gets_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """
    By the same names, counters without the page's suffix; each recovery in the same
    buckets.
    """
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics_api, "get_meter", provider.get_meter)
    measure(lambda: snapshot(tally), tally)
    recovered = [["heartbeat timeout", 1.2]]
    tally.add({"counts": {BEATS: 1}, "recovered": recovered, "breakers": []})

    found = numbers(reader)
    assert found["outlast_beats", ""] == 6
    assert found["outlast_restarts", ""] == 6
    assert found["outlast_dead_letters", "item"] == 5
    assert found["outlast_recoveries", "heartbeat"] == 2
    assert found["outlast_attempts_in_hand", "agents 7"] == 2
    assert found["outlast_recovery_seconds", "heartbeat"] == 1


def numbers(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    """
    Read every number by its name and the values of its labels.
    """
    data = reader.get_metrics_data()
    assert data is not None
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            label = " ".join(map(str, (point.attributes or {}).values()))
            value = point.count if hasattr(point, "count") else point.value
            found[metric.name, label] = value
    return found
