"""
Outside services as agents ask them: one circuit for the crew, kept by its store.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from outlast.agents.service_call import GuardedCall, ServiceTrouble
from outlast.contracts.errors import (
    CircuitOpenError,
    GiveUp,
    ParkedError,
    ServiceError,
    StoreUnavailableError,
    TaskError,
)
from outlast.contracts.retries import DEFAULT_BREAKER_POLICY
from outlast.execution.services import (
    KNOWN_FOR_S,
    PROBE_LIMIT_S,
    ServiceId,
    Services,
)
from outlast.ledger.circuit_decision import PROBE_LEASE_S, Circuit, CircuitState
from outlast.ledger.circuits import CircuitRecords
from outlast.store.database import Store
from outlast.telemetry.process import Counters, telemetry

PAYMENTS = ServiceId("acme", "payments")
T0 = 1_000.0


class Clock:
    """
    The store's clock and that of each process, turned by hand.
    """

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(store: Store, clock: Clock) -> Callable[[], Services]:
    """
    Make what another process of the crew knows.
    """
    return lambda: Services(CircuitRecords(store, clock), clock)


def call(services: Services, trouble: ServiceTrouble | None = None) -> GuardedCall:
    return GuardedCall(services, PAYMENTS, trouble or ServiceTrouble(), asyncio.run)


async def fail(services: Services, error: BaseException) -> None:
    with suppress(type(error)):
        async with call(services):
            raise error


async def open_circuit(services: Services) -> None:
    for _ in range(DEFAULT_BREAKER_POLICY.failures):
        with suppress(CircuitOpenError):
            await fail(services, ConnectionResetError())


async def succeed(services: Services) -> None:
    async with call(services):
        pass


async def test_failures_in_one_process_spare_the_others(
    process: Callable[[], Services], clock: Clock
) -> None:
    """
    What one has learned the others know within 0.2 s, before they call.
    """
    one, other = process(), process()
    await succeed(other)
    await open_circuit(one)
    clock.now += KNOWN_FOR_S
    with pytest.raises(CircuitOpenError, match="payments is away since 00:16:40 UTC"):
        await succeed(other)


async def test_its_failures_are_those_of_all_processes(
    process: Callable[[], Services],
) -> None:
    """
    One budget for the crew, not one for each.
    """
    for _ in range(DEFAULT_BREAKER_POLICY.failures):
        await fail(process(), ServiceError("HTTP 500"))
    with pytest.raises(CircuitOpenError):
        await succeed(process())


async def test_another_service_is_asked_on(process: Callable[[], Services]) -> None:
    """
    And another tenant's calls go out, too.
    """
    services = process()
    await open_circuit(services)
    for service in (ServiceId("acme", "stock"), ServiceId("other", "payments")):
        async with GuardedCall(services, service, ServiceTrouble(), asyncio.run):
            pass


@pytest.mark.parametrize(
    "error",
    [
        GiveUp("a bad question"),
        TaskError("mine"),
        ValueError("a bug"),
        asyncio.CancelledError(),
    ],
)
async def test_what_is_not_the_services_fault_is_not_counted(
    process: Callable[[], Services], error: BaseException
) -> None:
    """
    An agent's own word, its bugs and a cancelled attempt say nothing of the service.
    """
    services = process()
    for _ in range(10):
        await fail(services, error)
    await succeed(services)


async def test_the_call_after_the_pause_is_the_probe(
    process: Callable[[], Services], clock: Clock
) -> None:
    """
    While it is out no other process calls; its success lets all of them.
    """
    one, other = process(), process()
    await open_circuit(one)
    clock.now += DEFAULT_BREAKER_POLICY.shortest_pause_s
    async with call(one):
        with pytest.raises(CircuitOpenError):
            await succeed(other)
    clock.now += KNOWN_FOR_S
    await succeed(other)


async def test_a_cancelled_probe_lets_the_next_one_go(
    process: Callable[[], Services], clock: Clock
) -> None:
    """
    Nothing was learned: nobody waits for a lease that nobody holds.
    """
    services = process()
    await open_circuit(services)
    clock.now += DEFAULT_BREAKER_POLICY.shortest_pause_s
    await fail(services, asyncio.CancelledError())
    await succeed(services)


async def test_a_probe_that_never_comes_back_is_given_up(
    process: Callable[[], Services], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is renewed for a minute at most, as for a thread that hangs in its call.
    """
    monkeypatch.setattr("outlast.execution.services.PROBE_LEASE_S", 0.003)
    one, other = process(), process()
    await open_circuit(one)
    clock.now += DEFAULT_BREAKER_POLICY.shortest_pause_s
    probe = await one.begin(PAYMENTS)
    assert probe.renewing is not None
    await asyncio.sleep(0)  # it begins to renew
    clock.now += PROBE_LIMIT_S
    await asyncio.wait_for(probe.renewing, 5)
    clock.now += PROBE_LEASE_S
    await succeed(other)


@pytest.mark.parametrize(
    "decided",
    [GiveUp("no such order"), ParkedError("look"), StoreUnavailableError("gone")],
)
async def test_what_an_agent_decides_after_a_failure_stands(
    process: Callable[[], Services], decided: Exception
) -> None:
    """
    A GiveUp or a question for a person that was raised from a service's failure, or
    while it was handled, is no wait for the service.
    """
    services, trouble = process(), ServiceTrouble()
    reset = ConnectionResetError()
    with pytest.raises(ConnectionResetError):
        async with call(services, trouble):
            raise reset
    decided.__cause__ = decided.__context__ = reset
    assert trouble.behind(decided) is None


async def test_of_a_group_the_error_that_decides_is_the_services(
    process: Callable[[], Services],
) -> None:
    """
    As where calls of one task group fail within one guard.
    """
    services, trouble = process(), ServiceTrouble()
    reset = ConnectionResetError()
    with pytest.raises(ExceptionGroup):
        async with call(services, trouble):
            raise ExceptionGroup("calls", [reset])
    assert trouble.behind(reset) == PAYMENTS


async def test_a_plain_guard_on_the_event_loop_says_what_to_write(
    process: Callable[[], Services],
) -> None:
    """
    It would wait for itself.
    """
    with pytest.raises(TypeError, match="async with"), call(process()):
        pass


async def test_success_costs_no_write(
    process: Callable[[], Services], store: Store, clock: Clock
) -> None:
    """
    But one a second, for what the crew remembers of the load.
    """
    services, records = process(), CircuitRecords(store, clock)
    await succeed(services)
    await succeed(services)
    counted = records.find("acme", "payments")
    assert counted.load == pytest.approx(1)
    for _ in range(9):
        await succeed(services)
    assert records.find("acme", "payments") == counted
    clock.now += 1
    await succeed(services)
    assert records.find("acme", "payments").load == pytest.approx(12, abs=0.5)


async def test_an_attempt_knows_which_service_has_failed_it(
    process: Callable[[], Services],
) -> None:
    """
    Also through errors of the agent's own that were raised from it.
    """
    services, trouble = process(), ServiceTrouble()
    reset, own = ConnectionResetError(), RuntimeError("no order was placed")
    own.__cause__ = reset
    with pytest.raises(ConnectionResetError):
        async with call(services, trouble):
            raise reset
    assert trouble.behind(own) == PAYMENTS
    assert trouble.behind(RuntimeError("a bug")) is None
    await open_circuit(services)
    with pytest.raises(CircuitOpenError) as refused:
        async with call(services, trouble):
            pass
    assert trouble.behind(refused.value) == PAYMENTS


class Heard(Counters):
    def __init__(self) -> None:
        self.turns: list[tuple[str, str]] = []

    def breaker_changed(self, service: str, state: str) -> None:
        self.turns.append((service, state))


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    telemetry.counters = made
    yield made
    telemetry.counters = Counters()


async def test_each_change_is_counted(
    process: Callable[[], Services], heard: Heard, clock: Clock
) -> None:
    """
    By service and the state that its circuit became.
    """
    services = process()
    await open_circuit(services)
    clock.now += DEFAULT_BREAKER_POLICY.shortest_pause_s
    await succeed(services)
    states = [CircuitState.OPEN, CircuitState.PROBING, CircuitState.CLOSED]
    assert heard.turns == [("payments", state) for state in states]


async def test_what_waits_is_given_moments_one_after_another(
    process: Callable[[], Services], clock: Clock
) -> None:
    """
    The first one is the next probe's.
    """
    services = process()
    await open_circuit(services)
    slots = [(await services.wait_s(PAYMENTS))[1] for _ in range(3)]
    rate = DEFAULT_BREAKER_POLICY.release_floor
    pause = DEFAULT_BREAKER_POLICY.shortest_pause_s
    assert slots == pytest.approx([pause, pause + 1 / rate, pause + 2 / rate])
    found: Circuit = (await services.wait_s(PAYMENTS))[0]
    assert found.state is CircuitState.OPEN
