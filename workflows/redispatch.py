"""
After an attempt has ended without a result: what is counted against its task, or the
items of its lease, and whether and from where the next attempt starts.

Pure: `failure.classify_failure` has said what happened, and `contracts/quarantine.py`
says what a death in quarantine weighs.
"""

from collections.abc import Callable
from typing import NamedTuple

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.batches import MAX_LEASE_CRASHES, ItemRange, Lease, LeaseState
from outlast.contracts.prior_run import DispatchState
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.workflows.failure import Action, FailureDecision

# A task that is lost so often without a heartbeat may be what freezes its hosts.
MAX_LOST_DISPATCHES = 10
# Crashes of an item before it is a dead letter, the last of them in quarantine.
POISON_CRASHES = 3

NO_DEATHS = Quarantine()


class AttemptEnd(NamedTuple):
    """
    When an attempt started and ended, in seconds since 1970; *random* draws the jitter
    of the wait after it.
    """

    started_at: float
    ended_at: float
    random: Callable[[], float]


def after_failure(
    state: DispatchState, decision: FailureDecision, crashes: int, end: AttemptEnd
) -> tuple[DispatchState, FailureDecision]:
    """
    Carry over what a task's attempt has saved, count its end, and decide whether
    another attempt follows; after *crashes* deaths the task is in quarantine.
    """
    before, state = _saves(state), with_checkpoint(state, decision)
    if decision.next is Action.REDISPATCH_TIMED_OUT:
        if state.failures == 1:
            return state, _give_up(state, decision.cause)
        return _with(state, failures=state.failures - 1), decision
    if decision.next is not Action.REDISPATCH_CRASHED:
        return state, decision
    if decision.never_started and state.lost < MAX_LOST_DISPATCHES:
        # A poll that died with its process had received the task: not counted against
        # it.
        return _with(state, lost=state.lost + 1), decision
    if _saves(state) > before:
        return _with_death(state, end.ended_at, deaths=1), decision
    if state.deaths < crashes:
        return _with_death(state, end.ended_at, deaths=state.deaths + 1), decision
    return _after_death_in_quarantine(state, decision, end)


def with_checkpoint(state: DispatchState, decision: FailureDecision) -> DispatchState:
    """
    Pass the last checkpoint, and what ended the attempt, to the next attempt.
    """
    # An attempt that ended before it had resumed reports an empty checkpoint.
    known = [each for each in (state.checkpoint, decision.checkpoint) if each]
    return _with(
        state,
        previous_failure=one_line(decision.cause, CAUSE_CHARS),
        detected_by=decision.detected_by,
        checkpoint=max(known, key=_seq, default=None),
    )


def _after_death_in_quarantine(
    state: DispatchState, decision: FailureDecision, end: AttemptEnd
) -> tuple[DispatchState, FailureDecision]:
    """
    A task that died in quarantine, of what only it can have caused, takes its next
    route.
    """
    since_s = max(0.0, end.ended_at - state.died_at)
    weighed = state.quarantine.with_death(decision.death, since_s)
    state = _with_death(state, end.ended_at, state.deaths + 1, weighed)
    if weighed.is_poison:
        times = f"died {state.deaths} times at one step{weighed.describe}"
        return state, _give_up(state, f"{times}: {decision.cause}")
    wait_s = weighed.wait_s(end.ended_at - end.started_at, end.random())
    return _with(state, wait_s=wait_s), decision


def _with_death(
    state: DispatchState, died_at: float, deaths: int, weighed: Quarantine = NO_DEATHS
) -> DispatchState:
    return _with(state, died_at=died_at, deaths=deaths, quarantine=weighed)


def _give_up(state: DispatchState, cause: str) -> FailureDecision:
    return FailureDecision(Action.NEXT_ROUTE, cause, attempts=state.dispatches)


def _with(state: DispatchState, **changes: object) -> DispatchState:
    return state.model_copy(update=changes)


def _saves(state: DispatchState) -> int:
    return state.checkpoint.seq if state.checkpoint else 0


def _seq(checkpoint: Checkpoint) -> int:
    return checkpoint.seq


def after_crash(
    state: LeaseState, decision: FailureDecision, now: float
) -> tuple[LeaseState, list[Lease]]:
    """
    Count a crash for each in-flight item of a lease. Returns also a lease for each item
    that from now on runs in quarantine.
    """
    since_s = max(0.0, now - state.died_at)
    in_flight = items_in_flight(decision)
    lease, quarantined = attribute_crash(state.lease, in_flight)
    # A crash before the item was in flight does not count against it.
    counts = lease.quarantined and lease.span.start in in_flight
    idle = not in_flight and not decision.death.in_storm(since_s)
    changes = {
        "lease": lease,
        "died_at": now,
        "in_quarantine": counts,
        "idle_crashes": state.idle_crashes + idle,
    }
    if counts:
        changes["quarantine"] = state.quarantine.with_death(decision.death, since_s)
    return state.model_copy(update=changes), quarantined


def attribute_crash(lease: Lease, in_flight: list[int]) -> tuple[Lease, list[Lease]]:
    """
    Count a crash for each item *in_flight*. Returns what of the lease is redispatched,
    and a lease for each item that runs in quarantine.
    """
    deaths = dict(lease.deaths)
    for item in in_flight:
        deaths[item] = deaths.get(item, 0) + 1
    crashes = lease.batch.policy.crashes
    suspects = [
        item
        for item, count in deaths.items()
        if count >= crashes and item not in lease.skip and not lease.quarantined
    ]
    quarantined = [
        Lease(
            batch=lease.batch,
            span=ItemRange(start=item, stop=item + 1),
            deaths={item: deaths.pop(item)},
            quarantined=True,
        )
        for item in suspects
    ]
    left = {"deaths": deaths, "skip": [*lease.skip, *suspects]}
    return lease.model_copy(update=left), quarantined


def items_in_flight(decision: FailureDecision) -> list[int]:
    """
    Read which items were in flight when a process died.
    """
    value = decision.checkpoint.value if decision.checkpoint else None
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, int)]


def lease_wait_s(state: LeaseState, ran_s: float, draw: float) -> float:
    return state.quarantine.wait_s(ran_s, draw) if state.in_quarantine else 0.0


def is_poison(state: LeaseState) -> bool:
    """
    Say whether the one item of a quarantined lease is a dead letter.
    """
    deaths = state.lease.deaths.get(state.lease.span.start, 0)
    is_weighed = state.in_quarantine and state.quarantine.is_poison
    return is_weighed and deaths >= POISON_CRASHES


def is_over_limit(state: LeaseState) -> bool:
    return state.idle_crashes > MAX_LEASE_CRASHES
