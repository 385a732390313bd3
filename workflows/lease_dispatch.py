"""
One lease: the queue on which it waits, and which items a process death counts against.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.batches import (
        MAX_LEASE_CRASHES,
        ItemRange,
        Lease,
        LeaseResult,
        LeaseState,
    )
    from outlast.contracts.ids import (
        LeaseActivityId,
        lease_queue,
        quarantine_queue,
        task_queue,
    )
    from outlast.contracts.quarantine import Quarantine
    from outlast.workflows.failure import FailureDecision
    from outlast.workflows.task_dispatch import RETRIES

LEASE_TIMEOUT = timedelta(days=7)
# Crashes of an item before it is a dead letter, the last of them in quarantine.
POISON_CRASHES = 3


async def dispatch(lease: Lease) -> LeaseResult:
    """
    Have a worker work through *lease*, again if a client completes it in its place.

    :raises ActivityError: when the attempt ends without a result.
    """
    while (worked := await _run_lease(lease)) is None:
        lease = lease.model_copy(update={"redelivered": True})
    return worked


async def _run_lease(lease: Lease) -> LeaseResult | None:
    worked = await workflow.execute_activity(
        str(LeaseActivityId(lease.batch.role)),
        lease,
        task_queue=_queue(lease),
        summary=f"{lease.span.start} to {lease.span.stop - 1}",
        heartbeat_timeout=timedelta(seconds=lease.batch.heartbeat_timeout_s),
        start_to_close_timeout=LEASE_TIMEOUT,
        retry_policy=RETRIES,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    try:
        return LeaseResult.model_validate(worked)
    except ValidationError:
        return None


def _queue(lease: Lease) -> str:
    """
    Choose the queue of a lease. A redispatched one takes a slot for the role's tasks,
    of which every live worker has some, and so does not wait behind all other leases.
    """
    role = lease.batch.role
    if lease.quarantined:
        return quarantine_queue(role)
    return task_queue(role) if lease.redelivered else lease_queue(role)


def attribute_crash(
    lease: Lease, verdict: FailureDecision
) -> tuple[Lease, list[Lease]]:
    """
    Count a crash for each in-flight item. Returns what of the lease is redispatched,
    and a lease for each item that runs in quarantine.
    """
    deaths = dict(lease.deaths)
    for item in items_in_flight(verdict):
        deaths[item] = deaths.get(item, 0) + 1
    suspects = [] if lease.quarantined else _uncleared_items(lease, deaths)
    alone = [
        Lease(
            batch=lease.batch,
            span=ItemRange(start=item, stop=item + 1),
            deaths={item: deaths.pop(item)},
            quarantined=True,
        )
        for item in suspects
    ]
    left = {"deaths": deaths, "skip": [*lease.skip, *suspects]}
    return lease.model_copy(update=left), alone


def _uncleared_items(lease: Lease, deaths: dict[int, int]) -> list[int]:
    enough = lease.batch.policy.crashes
    return [i for i, n in deaths.items() if n >= enough and i not in lease.skip]


def items_in_flight(verdict: FailureDecision) -> list[int]:
    """
    Read which items were in flight when a process died.
    """
    value = verdict.checkpoint.value if verdict.checkpoint else None
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, int)]


@dataclass
class LeaseDispatch:
    """
    A lease over all its attempts, with the crashes that it has had.

    :param died_at: when a process last died with it, or when it was first dispatched.
    """

    lease: Lease
    died_at: float
    quarantine: Quarantine = field(default_factory=Quarantine)
    idle_crashes: int = 0  # crashes before an item was in flight, outside of a storm
    in_quarantine: bool = False  # whether its last crash was in quarantine

    @classmethod
    def restore(cls, state: LeaseState) -> "LeaseDispatch":
        """
        Continue from where an earlier run of the batch left the lease.
        """
        return cls(**dict(state))

    @property
    def state(self) -> LeaseState:
        """
        The state of the lease, for the next run of its batch.
        """
        return LeaseState(**vars(self))

    def redispatch(self) -> None:
        """
        Mark the lease as redispatched.
        """
        self.lease = self.lease.model_copy(update={"redelivered": True})

    def record_crash(self, verdict: FailureDecision, now: float) -> list[Lease]:
        """
        Count a crash. Returns a lease for each item that runs in quarantine.
        """
        since_s, self.died_at = max(0.0, now - self.died_at), now
        self.lease, alone = attribute_crash(self.lease, verdict)
        in_hand = items_in_flight(verdict)
        # A crash before the item was in flight does not count against it.
        self.in_quarantine = self.lease.quarantined and self.lease.span.start in in_hand
        if self.in_quarantine:
            self.quarantine = self.quarantine.with_death(verdict.death, since_s)
        if not in_hand and not verdict.death.in_storm(since_s):
            self.idle_crashes += 1
        return alone

    def wait_s(self, ran_s: float, draw: float) -> float:
        """
        Choose the wait before the next attempt, where the last one ran for *ran_s*.
        """
        return self.quarantine.wait_s(ran_s, draw) if self.in_quarantine else 0.0

    @property
    def is_poison(self) -> bool:
        """
        Whether its one item is a dead letter.
        """
        deaths = self.lease.deaths.get(self.lease.span.start, 0)
        return (
            self.in_quarantine
            and self.quarantine.is_poison
            and deaths >= POISON_CRASHES
        )

    @property
    def is_over_limit(self) -> bool:
        """
        Whether no worker can work on it.
        """
        return self.idle_crashes > MAX_LEASE_CRASHES
