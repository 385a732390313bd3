"""
One service's circuit: when it opens, who probes it, and how what waits comes back.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.contracts.retries import DEFAULT_BREAKER_POLICY, BreakerPolicy
from outlast.ledger.circuit_decision import (
    CLOSED,
    PROBE_LEASE_S,
    Admission,
    CallFailure,
    Circuit,
    CircuitState,
    admit,
    release_rate,
    with_failure,
    with_load,
    with_slot,
    with_success,
)

POLICY = DEFAULT_BREAKER_POLICY
T0 = 1_000.0


def fail(circuit: Circuit, now: float, refused: bool = False) -> Circuit:
    circuit, admission = admit(circuit, now)
    assert admission is not None
    return with_failure(circuit, now, admission, CallFailure("HTTP 503", refused))


def opened(now: float = T0) -> Circuit:
    circuit = CLOSED
    for _ in range(POLICY.failures):
        circuit = fail(circuit, now)
    return circuit


def test_a_few_failures_in_a_row_open_it() -> None:
    """
    A success between them begins the row anew.
    """
    circuit = fail(fail(CLOSED, T0), T0)
    assert circuit.state is CircuitState.CLOSED
    _, admission = admit(circuit, T0)
    assert admission is not None
    again = fail(with_success(circuit, T0, admission), T0)
    assert again.state is CircuitState.CLOSED
    assert fail(circuit, T0).state is CircuitState.OPEN


def test_failures_of_long_ago_are_forgotten() -> None:
    """
    Hiccups of different days are no outage.
    """
    circuit = fail(fail(CLOSED, T0), T0)
    assert fail(circuit, T0 + POLICY.window_s + 1).state is CircuitState.CLOSED


def test_a_refused_key_opens_it_at_once_and_for_longer() -> None:
    """
    No other call would fare better, and only a person can mend it.
    """
    circuit = fail(CLOSED, T0, refused=True)
    assert circuit.state is CircuitState.OPEN
    assert circuit.refused
    assert circuit.probe_at == T0 + POLICY.refused_pause_s


def test_one_probe_goes_out_at_a_time() -> None:
    """
    While it is out nobody else calls; one that never ends is given up.
    """
    circuit = opened()
    assert admit(circuit, circuit.probe_at - 0.01)[1] is None
    at = circuit.probe_at
    circuit, probe = admit(circuit, at)
    assert probe is not None
    assert probe.probes
    assert admit(circuit, at + PROBE_LEASE_S - 1)[1] is None
    other = admit(circuit, at + PROBE_LEASE_S)[1]
    assert other is not None
    assert other.generation != probe.generation


def test_a_probe_decides() -> None:
    """
    It closes the circuit, or opens it for a pause that grows with the outage.
    """
    circuit, probe = admit(opened(), T0 + 10)
    assert probe is not None
    closed = with_success(circuit, T0 + 10, probe)
    assert (closed.state, closed.failed_at, closed.cause) == (
        CircuitState.CLOSED,
        (),
        "",
    )
    again = with_failure(circuit, T0 + 10, probe, CallFailure("HTTP 503"))
    assert again.state is CircuitState.OPEN
    assert again.away_since == T0
    assert again.probe_at == T0 + 10 + POLICY.pause_s(10)


@pytest.mark.parametrize("end", [with_success, None])
def test_a_call_of_another_state_says_nothing(
    end: Callable[[Circuit, float, Admission], Circuit] | None,
) -> None:
    """
    What went out before the outage may end during it, either way.
    """
    _, old = admit(CLOSED, T0)
    assert old is not None
    circuit = opened()
    told = (
        end(circuit, T0, old)
        if end
        else with_failure(circuit, T0, old, CallFailure("late"))
    )
    assert told == circuit


@given(st.floats(0, 10_000))
def test_the_pause_is_short_while_an_outage_is_young(outage_s: float) -> None:
    """
    At most 3 s in the first minute and 5 s ever: a return is noticed within that.
    """
    pause_s = BreakerPolicy().pause_s(outage_s)
    assert 0.5 <= pause_s <= (3 if outage_s < 60 else 5)


@given(
    st.floats(0, 120).map(lambda outage_s: T0 + outage_s),
    st.integers(2, 50),
    st.floats(0, 20_000),
)
def test_slots_are_no_closer_than_the_release_rate(
    now: float, waiting: int, load: float
) -> None:
    """
    The first one comes when the next probe may go out, the others one after another.
    """
    circuit = opened(T0)
    circuit = Circuit(**{**vars(circuit), "load": load})
    slots = []
    for _ in range(waiting):
        circuit, at = with_slot(circuit, min(now, circuit.probe_at))
        slots.append(at)
    assert slots[0] == circuit.probe_at
    rate = release_rate(circuit)
    assert all(later - at >= 0.99 / rate for at, later in pairwise(slots))


def test_the_release_rate_is_what_the_service_was_used_to() -> None:
    """
    Measured while it was well; an outage does not make it forget.
    """
    circuit = CLOSED
    for second in range(300):
        circuit = with_load(circuit, T0 + second, 100)
    assert release_rate(circuit) == pytest.approx(100, rel=0.02)
    away = opened(T0 + 300)
    away = Circuit(**{**vars(away), "load": circuit.load, "load_at": T0 + 300})
    back, probe = admit(away, T0 + 900)
    assert probe is not None
    back = with_success(back, T0 + 900, probe)
    assert release_rate(back) == pytest.approx(100, rel=0.02)
    assert release_rate(with_load(back, T0 + 901, 100)) == pytest.approx(100, rel=0.05)
