"""
Counts of attempts: from a worker's outbox to its parent's page, by what has noticed
their end.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    RetryState,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TimedOut
from unit_fakes import assignment

from outlast.agents.service_call import ServiceTrouble
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import (
    GiveUp,
    RunSuspendedError,
    StaleAttemptError,
    StoreLostError,
)
from outlast.contracts.failures import Detector, FailureType
from outlast.execution.ends import with_failures_translated
from outlast.execution.in_flight import NULL_SLOT
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.exit_report import exit_error
from outlast.fleet.exits import Exit, Exits
from outlast.fleet.messages import Counted
from outlast.fleet.metrics import COUNTER_NAMES, Metrics, MetricsOutbox
from outlast.fleet.metrics_export import prometheus_page, register_metrics
from outlast.fleet.oom import OomKills
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_reader import InFlightAttempt
from outlast.fleet.slots import ExclusiveSlot, _ExclusiveSlotInterceptor
from outlast.ledger.ledger import Ledger
from outlast.telemetry.process import DEAD_ITEMS, DEAD_TASKS, HEARTBEATS, PARKED
from outlast.workflows.failure import classify_failure

NOWHERE = Path("/nowhere")


def ended_by(cause: BaseException) -> ActivityError:
    """
    Make the error that the workflow sees.
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
    error.__cause__ = cause
    return error


def told(exit_: Exit) -> Detector:
    """
    Read from an exit report, as the workflow does, what has noticed the death.
    """
    hand = InFlightAttempt(b"", "m", "t", "r", 1, None)
    return classify_failure(ended_by(exit_error(hand, exit_))).detected_by


@pytest.fixture
def exits() -> Exits:
    return Exits(OomKills())


def child(**more: Any) -> ProcessSlot:
    return ProcessSlot(ProcessKind.AGENTS, **more)


@pytest.mark.parametrize("code", [None, 0, 1, 3, -9, -11, -40])
def test_a_death_is_noticed_by_the_exit_report(exits: Exits, code: int | None) -> None:
    """
    Whatever it died of, as long as nobody had to kill it.
    """
    assert told(exits.read(child(), code, NOWHERE)) is Detector.EXIT


KILLS = {
    "frozen": "stopped for 1.1 s",
    "blocked": "silent and busy for 5.0 s: open() at agents.py:7",
    "too large": "memory over the cap of 9 MB",
    "mute": "it lives but polls nothing",
    "unsigned": "no sign for 120 s since it was started",
}


@pytest.mark.parametrize("sentence", KILLS.values(), ids=KILLS)
def test_what_the_watchdog_kills_is_its_own(exits: Exits, sentence: str) -> None:
    """
    It comes with an exit report too, but this is not what noticed it: also where the
    process never gave a sign, which was counted as an exit report before.
    """
    killed = exits.read(child(killed_for=sentence), -9, NOWHERE)
    assert told(killed) is Detector.WATCHDOG


async def of_attempt(ending: Exception, ledger: Ledger) -> Detector:
    """
    End an attempt by *ending*, and read what the workflow makes of it.
    """

    async def doing() -> None:
        raise ending

    attempt: Any = SimpleNamespace(
        claim=None,
        checkpoint=Checkpoint(),
        in_flight=NULL_SLOT,
        trouble=ServiceTrouble(),
        worker=WorkerContext(ledger),
        input=assignment(),
    )
    with pytest.raises(ApplicationError) as raised:
        await with_failures_translated(attempt, doing())
    return classify_failure(ended_by(raised.value)).detected_by


@pytest.mark.parametrize(
    ("ending", "detector"),
    [
        (RunSuspendedError("held, its peer does not say go on"), Detector.DRAIN),
        (StaleAttemptError("this attempt is over"), Detector.SUPERSEDED),
        (StoreLostError("the store is gone"), Detector.STORE),
        (GiveUp("hopeless"), Detector.FAILURE),
    ],
    ids=["held", "stale", "store", "given up"],
)
async def test_an_attempts_own_end_says_what_has_noticed_it(
    ending: Exception, detector: Detector, ledger: Ledger
) -> None:
    """
    Whatever its sentence says: one that the mesh held, and a stale one that does not
    speak of a later attempt, were counted as something else before.
    """
    assert await of_attempt(ending, ledger) is detector


async def test_what_a_full_process_hands_on_has_drained() -> None:
    """
    It was counted as something else before.
    """
    turn = ExclusiveSlot(1)
    assert turn.try_claim()
    after: Any = SimpleNamespace()
    with pytest.raises(ApplicationError) as refused:
        await _ExclusiveSlotInterceptor(after, turn).execute_activity(after)
    assert classify_failure(ended_by(refused.value)).detected_by is Detector.DRAIN


@pytest.mark.parametrize(
    ("kind", "detector"),
    [
        (FailureType.CRASHED, Detector.EXIT),
        (FailureType.DRAINED, Detector.DRAIN),
        (FailureType.STALE, Detector.SUPERSEDED),
        (FailureType.STORE_AWAY, Detector.STORE),
        (FailureType.FAILED, Detector.FAILURE),
        ("SomebodyElses", Detector.FAILURE),
    ],
)
def test_an_end_without_details_is_told_by_its_type(
    kind: str, detector: Detector
) -> None:
    """
    As from a client of another kind.
    """
    error = ApplicationError("exit report: stopped for 9 s", type=kind)
    assert classify_failure(ended_by(error)).detected_by is detector


@pytest.mark.parametrize(
    ("kind", "detector"),
    [
        ("NewerStateError", Detector.NEWER_STATE),
        ("StoreUnavailableError", Detector.STORE),
    ],
)
def test_what_no_worker_could_read_says_why(kind: str, detector: Detector) -> None:
    """
    A release that is too old, or the store with the input away.
    """
    error = ApplicationError("Failed decoding arguments")
    error.__cause__ = ApplicationError("whatever", type=kind)
    assert classify_failure(ended_by(error)).detected_by is detector


@pytest.mark.parametrize(
    ("kind", "detector"),
    [
        (TimeoutType.HEARTBEAT, Detector.HEARTBEAT),
        (TimeoutType.START_TO_CLOSE, Detector.TIMEOUT),
    ],
)
def test_a_timeout_is_noticed_by_the_server(
    kind: TimeoutType, detector: Detector
) -> None:
    """
    Of a lost heartbeat, or of an attempt over its limit.
    """
    error = TimedOut("too long", type=kind, last_heartbeat_details=[])
    assert classify_failure(ended_by(error)).detected_by is detector


def test_an_outbox_tells_each_thing_once() -> None:
    """
    What was told is not told again, and nothing is told when there is nothing.
    """
    outbox = MetricsOutbox()
    assert outbox.drain() is None
    outbox.count(HEARTBEATS)
    outbox.count(HEARTBEATS)
    outbox.recovered(Detector.HEARTBEAT, 1.5)
    outbox.breaker_changed("model", "open")
    assert outbox.drain() == Counted(
        counts={HEARTBEATS: 2},
        recovered=[(Detector.HEARTBEAT, 1.5)],
        breakers=[("model", "open")],
    )
    assert outbox.drain() is None


@pytest.fixture
def tally() -> Metrics:
    """
    What two workers have told.
    """
    made = Metrics()
    made.add(
        Counted(counts={HEARTBEATS: 3, PARKED: 1}, recovered=[], breakers=[]),
    )
    made.add(
        Counted(
            counts={HEARTBEATS: 2, DEAD_TASKS: 4, DEAD_ITEMS: 5},
            recovered=[
                (Detector.EXIT, 0.04),
                (Detector.EXIT, 0.05),
                (Detector.HEARTBEAT, 1.7),
                (Detector.DRAIN, -0.2),
            ],
            breakers=[("model", "open"), ("model", "closed"), ("model", "open")],
        )
    )
    return made


def snapshot(tally: Metrics) -> dict[str, Any]:
    process = {
        "kind": "agents",
        "pid": 7,
        "state": "polling",
        "in_flight": 2,
        "leaked": [{"mission": "m", "task": "t", "calls": 3}],
        "breakers": {"model": "open", "payments": "closed"},
    }
    return {
        "processes": [process],
        "restarts": 6,
        "reported": 2,
        "watchdog_kills": 1,
        "waits_for": [{"what": "store", "why": "full", "since_s": 2.5}],
        "counts": tally.snapshot(),
    }


@pytest.mark.parametrize(
    "line",
    [
        'outlast_process_polling{kind="agents",pid="7"} 1.0',
        'outlast_attempts_in_flight{kind="agents",pid="7"} 2.0',
        'outlast_attempts_leaked{kind="agents",pid="7"} 3.0',
        "outlast_restarts_total 6.0",
        "outlast_attempts_reported_total 2.0",
        "outlast_watchdog_kills_total 1.0",
        "outlast_heartbeats_total 5.0",
        "outlast_store_wait_seconds 2.5",
        "outlast_parked_total 1.0",
        'outlast_dead_letters_total{of="task"} 4.0',
        'outlast_dead_letters_total{of="item"} 5.0',
        'outlast_recoveries_total{detector="exit_report"} 2.0',
        'outlast_recoveries_total{detector="heartbeat"} 1.0',
        'outlast_recoveries_total{detector="watchdog"} 0.0',
        'outlast_recovery_seconds_bucket{detector="exit_report",le="0.05"} 2.0',
        'outlast_recovery_seconds_bucket{detector="heartbeat",le="1.5"} 0.0',
        'outlast_recovery_seconds_bucket{detector="heartbeat",le="2.0"} 1.0',
        'outlast_recovery_seconds_bucket{detector="heartbeat",le="+Inf"} 1.0',
        'outlast_recovery_seconds_count{detector="heartbeat"} 1.0',
        'outlast_recovery_seconds_sum{detector="heartbeat"} 1.7',
        'outlast_recovery_seconds_sum{detector="drain"} 0.0',
        'outlast_breaker_changes_total{service="model",state="open"} 2.0',
        'outlast_breaker_changes_total{service="model",state="closed"} 1.0',
        'outlast_breaker_open{pid="7",service="model"} 1.0',
        'outlast_breaker_open{pid="7",service="payments"} 0.0',
    ],
)
def test_the_page_shows_what_was_told(tally: Metrics, line: str) -> None:
    """
    Bounds are inclusive; two hosts' clocks make no negative seconds.
    """
    assert line in prometheus_page(snapshot(tally)).decode().splitlines()


def test_every_name_is_there_from_the_start() -> None:
    """
    A rate needs a zero to begin at: nothing appears only once it has happened.
    """
    page = prometheus_page(snapshot(Metrics())).decode()
    for detector in Detector:
        assert f'outlast_recoveries_total{{detector="{detector}"}} 0.0' in page
    assert set(Metrics().snapshot()) == {*COUNTER_NAMES, "recoveries", "breakers"}


def test_a_receiver_gets_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, tally: Metrics
) -> None:
    """
    By the same names, counters without the page's suffix; each recovery in the same
    buckets.
    """
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics_api, "get_meter", provider.get_meter)
    register_metrics(lambda: snapshot(tally), tally)
    recovered = [(Detector.HEARTBEAT, 1.2)]
    tally.add(Counted(counts={HEARTBEATS: 1}, recovered=recovered, breakers=[]))

    found = numbers(reader)
    assert found["outlast_heartbeats", ""] == 6
    assert found["outlast_restarts", ""] == 6
    assert found["outlast_dead_letters", "item"] == 5
    assert found["outlast_recoveries", "heartbeat"] == 2
    assert found["outlast_attempts_in_flight", "agents 7"] == 2
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
