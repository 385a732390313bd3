"""
The outside services that this process asks, each behind the crew's circuit.

A closed circuit costs nothing but a look into memory: what the crew knows is read at
most every 0.2 s, and written only when a call fails, a probe ends, or once a second
while calls succeed, so that the crew remembers how many there are.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from outlast.contracts.errors import CircuitOpenError
from outlast.ledger.circuit_decision import (
    CLOSED,
    PROBE_LEASE_S,
    Admission,
    CallFailure,
    Circuit,
    CircuitState,
    admit,
    describe,
    with_failure,
    with_load,
    with_probe_ended,
    with_probe_renewed,
    with_slot,
    with_success,
)
from outlast.ledger.circuits import CircuitRecords
from outlast.telemetry.process import telemetry

T = TypeVar("T")

# How old what a process knows of a circuit may be.
KNOWN_FOR_S = 0.2
# How often a circuit that is not closed is looked at, if nobody calls the service.
WATCH_EVERY_S = 1.0
# For how long one probe may keep all others from calling.
PROBE_LIMIT_S = 60.0
# How often the calls that succeeded are counted in the store.
LOAD_EVERY_S = 1.0


@dataclass(frozen=True)
class ServiceId:
    """
    A service, as one tenant asks it.
    """

    tenant: str
    name: str


@dataclass
class _Known:
    """
    What this process knows of one circuit.
    """

    circuit: Circuit = CLOSED
    read_at: float = -KNOWN_FOR_S
    calls: int = 0  # that succeeded, not counted yet
    counted_at: float = 0.0
    watch: asyncio.Task[None] | None = field(default=None, repr=False)


@dataclass
class ServiceCall:
    """
    A call that is under way.
    """

    service: ServiceId
    admission: Admission
    renewing: asyncio.Task[None] | None = field(default=None, repr=False)


class Services:
    """
    The services that this process asks, by the circuits in *records*.

    :param clock: seconds that only grow.
    """

    def __init__(
        self, records: CircuitRecords, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records = records
        self._clock = clock
        self._known: dict[ServiceId, _Known] = {}

    async def begin(self, service: ServiceId) -> ServiceCall:
        """
        Let a call to *service* go out.

        :raises CircuitOpenError: when the crew leaves the service alone for now.
        """
        circuit = await self.circuit(service)
        if circuit.state is CircuitState.CLOSED:
            return ServiceCall(service, Admission(circuit.generation))
        circuit, admission = await self._change(service, admit)
        if admission is None:
            raise CircuitOpenError(describe(service.name, circuit), service.name)
        call = ServiceCall(service, admission)
        if admission.probes:
            call.renewing = asyncio.ensure_future(self._keep_probing(call))
        return call

    async def require(self, service: ServiceId) -> None:
        """
        Make sure that a call to *service* could go out now, without making one.

        :raises CircuitOpenError: as `begin` would.
        """
        circuit = await self.circuit(service)
        if circuit.state is not CircuitState.CLOSED and not circuit.may_probe(
            self._records.now()
        ):
            raise CircuitOpenError(describe(service.name, circuit), service.name)

    async def succeeded(self, call: ServiceCall) -> None:
        """
        Note that *call* was answered.
        """
        self._stop_renewing(call)
        known = self._known[call.service]
        known.calls += 1
        due = self._clock() - known.counted_at >= LOAD_EVERY_S
        if call.admission.probes or known.circuit.failed_at or due:
            calls, known.calls, known.counted_at = known.calls, 0, self._clock()

            def noted(circuit: Circuit, now: float) -> Circuit:
                answered = with_success(circuit, now, call.admission)
                return with_load(answered, now, calls)

            await self._update(call.service, noted)

    async def failed(self, call: ServiceCall, failure: CallFailure) -> None:
        """
        Note that *call* failed.
        """
        self._stop_renewing(call)
        admission = call.admission
        await self._update(
            call.service,
            lambda circuit, now: with_failure(circuit, now, admission, failure),
        )

    async def abandoned(self, call: ServiceCall) -> None:
        """
        Note that nothing was learned from *call*, which did not end.
        """
        self._stop_renewing(call)
        if (admission := call.admission).probes:
            await self._update(
                call.service,
                lambda circuit, now: with_probe_ended(circuit, now, admission),
            )

    async def wait_s(self, service: ServiceId) -> tuple[Circuit, float]:
        """
        Reserve the moment at which something that waits for *service* asks again;
        returns the circuit and how many seconds that is from now.
        """
        circuit, at = await self._change(service, with_slot)
        return circuit, max(0.0, at - self._records.now())

    async def circuit(self, service: ServiceId) -> Circuit:
        known = self._known.setdefault(service, _Known())
        if self._clock() - known.read_at >= KNOWN_FOR_S:
            find, who = self._records.find, (service.tenant, service.name)
            self._learn(service, await self._records.store.run(find, *who))
        return known.circuit

    async def _change(
        self,
        service: ServiceId,
        decide: Callable[[Circuit, float], tuple[Circuit, T]],
    ) -> tuple[Circuit, T]:
        circuit, decision = await self._records.store.run(
            lambda: self._records.change(service.tenant, service.name, decide)
        )
        self._learn(service, circuit)
        return circuit, decision

    async def _update(
        self, service: ServiceId, change: Callable[[Circuit, float], Circuit]
    ) -> None:
        await self._change(service, lambda *now: (change(*now), None))

    def _learn(self, service: ServiceId, circuit: Circuit) -> None:
        known = self._known.setdefault(service, _Known())
        before, known.circuit = known.circuit, circuit
        known.read_at = self._clock()
        if circuit.state is not CircuitState.CLOSED and known.watch is None:
            known.watch = asyncio.ensure_future(self._watch(service, known))
        if circuit.state is not before.state:
            telemetry.counters.breaker_changed(service.name, circuit.state)

    async def _watch(self, service: ServiceId, known: _Known) -> None:
        """
        Learn of the return of a service also where nobody calls it here any more: what
        this process shows of it must not stay open.
        """
        try:
            while known.circuit.state is not CircuitState.CLOSED:
                await asyncio.sleep(WATCH_EVERY_S)
                await self.circuit(service)
        finally:
            known.watch = None

    async def _keep_probing(self, call: ServiceCall) -> None:
        """
        Hold the probe while its call is out: it is another's soon after we died, or
        where the call does not come back.
        """
        admission, until = call.admission, self._clock() + PROBE_LIMIT_S
        while self._clock() < until:
            await asyncio.sleep(PROBE_LEASE_S / 3)
            await self._update(
                call.service,
                lambda circuit, now: with_probe_renewed(circuit, now, admission),
            )

    def _stop_renewing(self, call: ServiceCall) -> None:
        if call.renewing is not None:
            call.renewing.cancel()
