"""
The circuit of one outside service, as the whole crew sees it: pure decisions.

    closed   calls go out; a few in a row fail           -> open
    open     none goes out; its pause is over            -> probing, by whoever calls
    probing  one call is out, the probe; it succeeds     -> closed
                                         it fails        -> open, for a longer pause
                                         it never ends   -> open to the next probe

What waits for the service is given slots: moments at which it asks again, spaced so
that all waiting work together calls no faster than the service is used to. Nothing is
woken, so that nobody can die before waking it.

All times are seconds by the store's clock, read where the row is changed.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from outlast.contracts.retries import DEFAULT_BREAKER_POLICY, BreakerPolicy


class CircuitState(StrEnum):
    """
    Whether calls go out.
    """

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


# A probe belongs to the process that renews it; another may go so long after its death.
PROBE_LEASE_S = 3.0
# Over how long the usual number of calls a second is remembered.
LOAD_MEMORY_S = 60.0


@dataclass(frozen=True)
class Circuit:
    """
    One service's circuit.
    """

    state: CircuitState = CircuitState.CLOSED
    generation: int = 0  # grows with each change of the state
    failed_at: tuple[float, ...] = ()  # failures in a row
    away_since: float = 0.0  # of the outage, from its first failure
    cause: str = ""
    refused: bool = (
        False  # access: somebody must renew a key before a probe is worth it
    )
    probe_at: float = 0.0  # the next one may go out; while probing: until when it may
    last_slot: float = 0.0  # given to what waits
    load: float = 0.0  # calls that succeeded, those of long ago counting less
    load_at: float = 0.0

    def may_probe(self, now: float) -> bool:
        """
        Whether the next call that asks goes out as the probe.
        """
        return self.state is not CircuitState.CLOSED and now >= self.probe_at


CLOSED = Circuit()


@dataclass(frozen=True)
class Admission:
    """
    Leave for one call to go out; its end is told with it.
    """

    generation: int
    probes: bool = False


def admit(circuit: Circuit, now: float) -> tuple[Circuit, Admission | None]:
    """
    Decide whether a call goes out; None where it does not.
    """
    if circuit.state is CircuitState.CLOSED:
        return circuit, Admission(circuit.generation)
    if not circuit.may_probe(now):
        return circuit, None
    probing = _turn(circuit, CircuitState.PROBING, probe_at=now + PROBE_LEASE_S)
    return probing, Admission(probing.generation, probes=True)


@dataclass(frozen=True)
class CallFailure:
    """
    How a call has failed.

    :param refused: access was refused: no other call would fare better.
    :param retry_after_s: for which the service asked to be left alone, by all.
    """

    cause: str
    refused: bool = False
    retry_after_s: float | None = None


def with_failure(
    circuit: Circuit,
    now: float,
    admission: Admission,
    failure: CallFailure,
    policy: BreakerPolicy = DEFAULT_BREAKER_POLICY,
) -> Circuit:
    """
    Decide what follows from a call that failed.
    """
    if admission.generation != circuit.generation:
        return circuit  # it went out in another state: it says nothing of this one
    recent = [at for at in circuit.failed_at if at > now - policy.window_s]
    told = {"cause": failure.cause, "refused": failure.refused}
    failed = replace(circuit, failed_at=(*recent, now), **told)  # type: ignore[arg-type]
    asked_s = failure.retry_after_s
    at_once = failure.refused or asked_s is not None or admission.probes
    if not at_once and len(failed.failed_at) < policy.failures:
        return failed
    since = circuit.away_since if admission.probes else failed.failed_at[0]
    pause_s = policy.refused_pause_s if failure.refused else policy.pause_s(now - since)
    return _open(failed, now, since, asked_s or pause_s)


def with_success(circuit: Circuit, now: float, admission: Admission) -> Circuit:
    """
    Decide what follows from a call that succeeded.
    """
    if admission.generation != circuit.generation:
        return circuit
    if not admission.probes:
        return replace(circuit, failed_at=())
    closed = _turn(circuit, CircuitState.CLOSED, cause="", away_since=0.0, load_at=now)
    return replace(closed, failed_at=(), refused=False)


def with_probe_renewed(circuit: Circuit, now: float, admission: Admission) -> Circuit:
    """
    Hold the probe, whose call is still out.
    """
    if admission.generation != circuit.generation:
        return circuit
    return replace(circuit, probe_at=now + PROBE_LEASE_S)


def with_probe_ended(circuit: Circuit, now: float, admission: Admission) -> Circuit:
    """
    Let another probe go out: this one was cancelled, and nothing was learned.
    """
    if admission.generation != circuit.generation:
        return circuit
    return _turn(circuit, CircuitState.OPEN, probe_at=now)


def with_load(circuit: Circuit, now: float, calls: int) -> Circuit:
    """
    Count *calls* that succeeded.
    """
    return replace(circuit, load=_load(circuit, now) + calls, load_at=now)


def with_slot(
    circuit: Circuit, now: float, policy: BreakerPolicy = DEFAULT_BREAKER_POLICY
) -> tuple[Circuit, float]:
    """
    Give the next slot: when what waits asks again, its attempt or item.
    """
    earliest = now if circuit.state is CircuitState.CLOSED else circuit.probe_at
    if circuit.state is CircuitState.PROBING:
        # The probe may end at any moment: do not wait for the end of its time.
        earliest = now + policy.shortest_pause_s
    at = max(earliest, circuit.last_slot + 1 / release_rate(circuit, policy))
    return replace(circuit, last_slot=at), at


def release_rate(
    circuit: Circuit, policy: BreakerPolicy = DEFAULT_BREAKER_POLICY
) -> float:
    """
    Say how many a second of those that wait may call: as many as the service was used
    to, and no fewer than the floor.
    """
    return max(policy.release_floor, circuit.load / LOAD_MEMORY_S)


def _open(circuit: Circuit, now: float, since: float, pause_s: float) -> Circuit:
    opened = _turn(circuit, CircuitState.OPEN, probe_at=now + pause_s, away_since=since)
    # What is remembered of the load does not fade while nothing can be called.
    return replace(opened, failed_at=(), load=_load(circuit, now), load_at=now)


def _turn(circuit: Circuit, state: CircuitState, **changes: object) -> Circuit:
    told: dict[str, object] = {"state": state, "generation": circuit.generation + 1}
    return replace(circuit, **{**told, **changes})  # type: ignore[arg-type]


def _load(circuit: Circuit, now: float) -> float:
    faded = math.exp(-max(0.0, now - circuit.load_at) / LOAD_MEMORY_S)
    return circuit.load * faded


def describe(service: str, circuit: Circuit) -> str:
    """
    Say that *service* is away, since when and why.
    """
    since = datetime.fromtimestamp(circuit.away_since, UTC)
    return f"{service} is away since {since:%H:%M:%S} UTC: {circuit.cause}"
