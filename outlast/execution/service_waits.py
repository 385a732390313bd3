"""
An attempt that a service has failed: it waits for the service, counted against nobody.

Between its attempts a waiting task holds nothing: the server keeps it until the moment
that the circuit has reserved for it. Work that was not saved is done again then.
"""

from dataclasses import dataclass
from enum import Enum, auto

from outlast.contracts.failures import FailureType
from outlast.contracts.retries import backoff_s
from outlast.execution.services import ServiceId, Services
from outlast.ledger.circuit_decision import Circuit, CircuitState
from outlast.ledger.claim import Claim
from outlast.ledger.service_waits import ServiceWaits
from outlast.store.database import Store

# A service that answers others but fails this task alone so often fails because of it.
FAILURES_ALONE = 30
# A service that has not been left alone yet is asked again soon.
ALONE_PAUSE_S = 5.0


class WaitAction(Enum):
    """
    What becomes of the attempt.
    """

    WAIT = auto()  # for the service, uncounted
    COUNT = auto()  # as the task's own failure
    STOP_WAITING = auto()  # its patience is over: the next route, or a dead letter


@dataclass(frozen=True)
class WaitDecision:
    """
    What becomes of an attempt that a service has failed, and when it goes on.
    """

    action: WaitAction
    delay_s: float = 0.0


def decide_wait(
    circuit: Circuit,
    now: float,
    slot_s: float,
    failures_alone: int,
    patience_s: float | None,
) -> WaitDecision:
    """
    Decide what becomes of the attempt.

    :param slot_s: seconds to the moment that the circuit has reserved.
    :param failures_alone: of this task, this one included, while the service answered
        others.
    """
    if circuit.state is CircuitState.CLOSED:
        if failures_alone > FAILURES_ALONE:
            return WaitDecision(WaitAction.COUNT)
        pause_s = min(ALONE_PAUSE_S, backoff_s(failures_alone))
        return WaitDecision(WaitAction.WAIT, pause_s)
    if patience_s is not None and now - circuit.away_since >= patience_s:
        return WaitDecision(WaitAction.STOP_WAITING)
    return WaitDecision(WaitAction.WAIT, slot_s)


class AttemptWaits:
    """
    The waits of attempts for *services*, as *store* records them.
    """

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self._services = services
        self._waits = ServiceWaits(store)

    async def require_service(self, mission: str, tenant: str, task: str) -> None:
        """
        Make sure that the service for which *task* waited may be asked again.

        :raises CircuitOpenError: when it may not: nothing need be begun.
        """
        name = await self._store.run(self._waits.service_of, mission, task)
        if name is not None:
            await self._services.require(ServiceId(tenant, name))

    async def end_attempt(
        self,
        claim: Claim | None,
        service: ServiceId,
        patience_s: float | None,
        cause: str,
        trace: str,
    ) -> WaitDecision:
        """
        Decide what becomes of an attempt that *service* has failed, and record it if
        it waits.

        :param claim: None if it had not begun, since it waited already.
        """
        circuit, slot_s = await self._services.wait_s(service)
        alone = 0
        if claim is not None and circuit.state is CircuitState.CLOSED:
            alone = 1 + await self._store.run(self._waits.failures, claim)
        now = self._store.clock()
        decision = decide_wait(circuit, now, slot_s, alone, patience_s)
        if claim is not None and decision.action is WaitAction.WAIT:
            kind = FailureType.SERVICE if alone else FailureType.SERVICE_AWAY
            await self._store.run(
                self._waits.record, claim, service.name, kind, cause, trace
            )
        return decision
