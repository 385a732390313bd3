"""
One circuit for the whole crew, whoever changes it.
"""

from concurrent.futures import ThreadPoolExecutor

from outlast.cli.doctor import away_services
from outlast.ledger.circuit_decision import (
    CLOSED,
    Admission,
    CallFailure,
    Circuit,
    CircuitState,
    admit,
    with_failure,
    with_slot,
)
from outlast.ledger.circuits import CircuitRecords
from outlast.store.database import Store

HERE = ("acme", "payments")


def failed(circuit: Circuit, now: float) -> tuple[Circuit, None]:
    admission = Admission(circuit.generation)
    return with_failure(circuit, now, admission, CallFailure("HTTP 503")), None


def test_a_circuit_that_nobody_changed_is_closed(store: Store) -> None:
    """
    Nothing is written for a service that works.
    """
    assert CircuitRecords(store).find(*HERE) == CLOSED
    assert CircuitRecords(store).away() == []


def test_failures_of_different_processes_add_up(store: Store) -> None:
    """
    One budget of failures for the crew, not one for each process.
    """
    for _ in range(3):
        CircuitRecords(store, lambda: 1000.0).change(*HERE, failed)
    found = CircuitRecords(store).find(*HERE)
    assert found.state is CircuitState.OPEN
    assert found.cause == "HTTP 503"
    assert CircuitRecords(store).away() == [(*HERE, found)]
    [told] = away_services(CircuitRecords(store, lambda: 1000.0))
    assert told.text == (
        "payments is away since 00:16:40 UTC: HTTP 503; "
        "next probe in 0.5 s (tenant acme)"
    )


def test_tenants_have_circuits_of_their_own(store: Store) -> None:
    """
    Their keys and quotas differ.
    """
    for _ in range(3):
        CircuitRecords(store, lambda: 1000.0).change(*HERE, failed)
    assert CircuitRecords(store).find("other", "payments") == CLOSED


def test_one_probe_goes_out_however_many_ask_at_once(store: Store) -> None:
    """
    Also where several processes find the pause over at the same moment.
    """
    records = CircuitRecords(store, lambda: 1000.0)
    for _ in range(3):
        records.change(*HERE, failed)
    late = CircuitRecords(store, lambda: 1010.0)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(late.change, *HERE, admit) for _ in range(24)]
    probes = [each.result()[1] for each in asked if each.result()[1] is not None]
    assert len(probes) == 1


def test_slots_are_given_once_each(store: Store) -> None:
    """
    Of several that wait no two ask again at the same moment.
    """
    records = CircuitRecords(store, lambda: 1000.0)
    for _ in range(3):
        records.change(*HERE, failed)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(records.change, *HERE, with_slot) for _ in range(24)]
    slots = {each.result()[1] for each in asked}
    assert len(slots) == 24
