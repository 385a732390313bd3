"""
What becomes of an attempt that an outside service has failed, and what is recorded.
"""

from dataclasses import replace

import pytest
from unit_fakes import assignment

from outlast.contracts.errors import CircuitOpenError
from outlast.contracts.failures import FailureType
from outlast.execution.service_waits import (
    ALONE_PAUSE_S,
    FAILURES_ALONE,
    AttemptWaits,
    WaitAction,
    decide_wait,
)
from outlast.execution.services import ServiceId, Services
from outlast.ledger.circuit_decision import (
    CLOSED,
    Admission,
    CallFailure,
    Circuit,
    CircuitState,
    with_failure,
)
from outlast.ledger.circuits import CircuitRecords
from outlast.ledger.ledger import Ledger
from outlast.ledger.service_waits import ServiceWaits
from outlast.store.database import Store
from outlast.workflows.routes import Routes

T0 = 1_000.0
AWAY = replace(CLOSED, state=CircuitState.OPEN, away_since=T0, probe_at=T0 + 1)
PAYMENTS = ServiceId("acme", "payments")


def action(
    circuit: Circuit, alone: int = 1, patience_s: float | None = None
) -> WaitAction:
    return decide_wait(circuit, T0 + 10, 2.0, alone, patience_s).action


def test_what_waits_goes_on_in_its_slot() -> None:
    """
    However long the service is away, unless the policy has a limit.
    """
    assert decide_wait(AWAY, T0 + 1e6, 2.0, 0, None).delay_s == 2.0
    assert action(AWAY) is WaitAction.WAIT
    assert action(AWAY, patience_s=11) is WaitAction.WAIT
    assert action(AWAY, patience_s=10) is WaitAction.STOP_WAITING


def test_a_service_that_fails_one_task_alone_fails_because_of_it() -> None:
    """
    While it answers others the task asks again soon; that is counted past a number.
    """
    assert action(CLOSED) is WaitAction.WAIT
    assert action(CLOSED, alone=FAILURES_ALONE) is WaitAction.WAIT
    assert action(CLOSED, alone=FAILURES_ALONE + 1) is WaitAction.COUNT
    last = decide_wait(CLOSED, T0, 0.0, FAILURES_ALONE, None)
    assert 0 < last.delay_s <= ALONE_PAUSE_S


def test_a_wait_lasts_until_the_next_attempt_begins(
    store: Store, ledger: Ledger
) -> None:
    """
    Its end is on record with its type; failures of a service that answers others are
    told from waits.
    """
    given, waits = assignment(), ServiceWaits(store)
    task = given.mission, given.task.id
    for fence, kind in enumerate((FailureType.SERVICE_AWAY, FailureType.SERVICE), 1):
        claim = ledger.claim(given, "role", fence)
        waits.record(claim, "payments", kind, "HTTP 503", "")
        assert waits.service_of(*task) == "payments"
    assert waits.failures(claim) == 1
    ledger.claim(given, "role", 3)
    assert waits.service_of(*task) is None


async def test_what_waits_is_not_begun_while_the_service_is_away(
    store: Store, ledger: Ledger
) -> None:
    """
    Its agent would do again what it has not saved, to hear the same.
    """
    given, now = assignment(), [T0]
    records = CircuitRecords(store, lambda: now[0])
    waits = AttemptWaits(store, Services(records, lambda: now[0]))
    claim = ledger.claim(given, "role", 1)
    failure = CallFailure("HTTP 503", refused=True)

    def opened(circuit: Circuit, at: float) -> tuple[Circuit, None]:
        admission = Admission(circuit.generation)
        return with_failure(circuit, at, admission, failure), None

    records.change(PAYMENTS.tenant, PAYMENTS.name, opened)
    await waits.end_attempt(claim, PAYMENTS, None, "HTTP 503", "")
    asked = given.mission, PAYMENTS.tenant, given.task.id
    with pytest.raises(CircuitOpenError, match="payments is away since"):
        await waits.require_service(*asked)
    now[0] += 61
    await waits.require_service(*asked)


def test_the_last_route_is_the_one_that_no_other_follows() -> None:
    """
    Only there a task waits for a service: any other one is tried first.
    """
    routes = Routes(["researcher", "keyword_researcher"])
    assert not routes.is_last("researcher")
    routes.fail("HTTP 503")
    assert routes.is_last("keyword_researcher")
    assert Routes(["researcher"]).is_last("researcher")
