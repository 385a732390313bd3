"""
The breaker: what opens it, what it lets through while open, and what closes it.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import Clock

from outlast.contracts.errors import (
    CircuitOpenError,
    GiveUp,
    ServiceError,
    TaskError,
)
from outlast.contracts.retries import BreakerPolicy
from outlast.execution import circuit_breaker
from outlast.execution.circuit_breaker import BreakerState, CircuitBreaker, circuit
from outlast.execution.exceptions import FINAL_ERRORS
from outlast.telemetry.process import Counters, telemetry

BEARS = BreakerPolicy(
    failures=3, open_s=5.0, max_open_s=15.0, window_s=60.0, probe_s=30.0
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns() -> list[BreakerState]:
    return []


@pytest.fixture
def breaker(clock: Clock, turns: list[BreakerState]) -> CircuitBreaker:
    return CircuitBreaker(clock, turns.append, BEARS)


def call(breaker: CircuitBreaker, succeeded: bool | None) -> bool:
    """
    Make a call, if it is let out; says whether it was.
    """
    turn = breaker.try_acquire()
    if turn is not None:
        breaker.record(turn, succeeded)
    return turn is not None


def break_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        call(breaker, False)
    assert breaker.state is BreakerState.OPEN


def test_enough_failures_open_it(breaker: CircuitBreaker) -> None:
    """
    Two failures are a hiccup, three are a sickness, and then nothing goes out.
    """
    call(breaker, False)
    call(breaker, False)
    assert breaker.state is BreakerState.CLOSED
    call(breaker, False)
    assert breaker.state is BreakerState.OPEN
    assert not call(breaker, True)


def test_a_few_failures_among_many_calls_do_not(breaker: CircuitBreaker) -> None:
    """
    A busy service may fail now and then, twice in a row too.
    """
    for _ in range(50):
        assert call(breaker, True)
        assert call(breaker, False)
        assert call(breaker, False)
    assert breaker.state is BreakerState.CLOSED


def test_failures_are_forgotten(breaker: CircuitBreaker, clock: Clock) -> None:
    """
    Three failures in three hours are no sickness.
    """
    for _ in range(3):
        call(breaker, False)
        clock.turn(61.0)
    assert breaker.state is BreakerState.CLOSED


def test_one_probe_goes_out_when_the_rest_is_over(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    """
    However many ask: a sick service is asked by one, and healed by its success.
    """
    break_it(breaker)
    clock.turn(4.9)
    assert breaker.try_acquire() is None
    clock.turn(0.2)
    probe = breaker.try_acquire()
    assert probe is not None
    assert [breaker.try_acquire() for _ in range(10)] == [None] * 10
    breaker.record(probe, True)
    assert breaker.state is BreakerState.CLOSED
    assert call(breaker, True)


def test_each_failed_probe_doubles_the_rest_up_to_a_cap(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    """
    5 s, 10 s, then 15 s for ever; a success starts again at 5 s.
    """
    break_it(breaker)
    for rest in (5.0, 10.0, 15.0, 15.0):
        clock.turn(rest - 0.1)
        assert breaker.try_acquire() is None
        clock.turn(0.2)
        assert call(breaker, False)
    clock.turn(15.1)
    assert call(breaker, True)
    break_it(breaker)
    clock.turn(5.1)
    assert call(breaker, True)


def test_a_probe_that_says_nothing_lets_the_next_one_go(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    """
    Cancelled, or never heard of again: neither keeps the service shut for ever.
    """
    break_it(breaker)
    clock.turn(5.1)
    assert call(breaker, None)
    assert breaker.state is BreakerState.HALF_OPEN
    lost = breaker.try_acquire()
    assert lost is not None
    clock.turn(29.9)
    assert breaker.try_acquire() is None
    clock.turn(0.2)
    assert call(breaker, True)
    assert breaker.state is BreakerState.CLOSED


def test_a_late_end_says_nothing_of_now(breaker: CircuitBreaker, clock: Clock) -> None:
    """
    A call from before the change is no probe: neither its success nor its failure.
    """
    early = [breaker.try_acquire() for _ in range(2)]
    break_it(breaker)
    clock.turn(5.1)
    probe = breaker.try_acquire()
    for turn, succeeded in zip(early, (True, False), strict=True):
        assert turn is not None
        breaker.record(turn, succeeded)
    assert breaker.state is BreakerState.HALF_OPEN
    assert probe is not None
    breaker.record(probe, True)
    assert breaker.state is BreakerState.CLOSED


def test_each_change_is_told(
    breaker: CircuitBreaker, clock: Clock, turns: list[BreakerState]
) -> None:
    """
    In order, each once.
    """
    break_it(breaker)
    clock.turn(5.1)
    call(breaker, True)
    assert turns == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=200)
)
def test_a_service_at_rest_is_asked_once_a_rest(
    course: list[tuple[float, bool]],
) -> None:
    """
    Whatever happens, between an opening and the next call lies a whole rest, and no
    two probes are out at once.
    """
    clock, opened = Clock(), [0.0]
    breaker = CircuitBreaker(clock, lambda _: None, BEARS)
    for step, succeeded in course:
        clock.turn(step)
        before = breaker.state
        turn = breaker.try_acquire()
        if before is BreakerState.OPEN:
            assert (turn is not None) == (clock() - opened[0] >= breaker._open_s)
        if turn is None:
            continue
        if breaker.state is BreakerState.HALF_OPEN:
            assert breaker.try_acquire() is None
        breaker.record(turn, succeeded)
        if breaker.state is BreakerState.OPEN:
            opened[0] = clock()


class Heard(Counters):
    def __init__(self) -> None:
        self.turns: list[tuple[str, str]] = []

    def breaker_changed(self, service: str, state: str) -> None:
        self.turns.append((service, state))


@pytest.fixture
def heard() -> Iterator[Heard]:
    circuit_breaker.forget_breakers()
    made = Heard()
    telemetry.counters = made
    yield made
    telemetry.counters = Counters()
    circuit_breaker.forget_breakers()


def fail(service: str, error: BaseException) -> None:
    with pytest.raises(type(error)), circuit(service):
        raise error


def test_an_open_service_makes_the_task_take_its_next_route(heard: Heard) -> None:
    """
    At once, as after a GiveUp, unless the agent catches it; its neighbour is asked on,
    and the change is counted.
    """
    for error in (ServiceError("500"), OSError("reset"), TimeoutError()):
        fail("model", error)
    with pytest.raises(CircuitOpenError) as refused, circuit("model"):
        raise AssertionError("it was asked")
    with circuit("payments"):
        pass
    assert isinstance(refused.value, FINAL_ERRORS)
    assert heard.turns == [("model", "open")]


@pytest.mark.parametrize(
    "error", [GiveUp("a bad question"), TaskError("mine"), asyncio.CancelledError()]
)
def test_what_is_not_the_services_fault_is_not_counted(
    heard: Heard, error: BaseException
) -> None:
    """
    An agent's own word and a cancelled attempt say nothing of the service.
    """
    for _ in range(10):
        fail("model", error)
    assert heard.turns == []
