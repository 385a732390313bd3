"""
One lease on its way: where it waits, and who is charged when its process dies.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.batches import (
        LEASE_DEATHS,
        Lease,
        LoanState,
        Span,
        Worked,
    )
    from outlast.contracts.ids import (
        LeaseActivityId,
        alone_queue_of,
        lease_queue_of,
        queue_of,
    )
    from outlast.contracts.quarantine import Quarantine
    from outlast.workflows.failure import Verdict
    from outlast.workflows.task_dispatch import RETRIES

LEASE_LIMIT = timedelta(days=7)
# Deaths of an item before it is given up, the last of them alone.
CONVICTED = 3


async def dispatch(lease: Lease) -> Worked:
    """
    Have a worker work through *lease*, again if others complete it in its place.

    :raises ActivityError: when it does not come to its end.
    """
    while (worked := await _work(lease)) is None:
        lease = lease.model_copy(update={"again": True})
    return worked


async def _work(lease: Lease) -> Worked | None:
    worked = await workflow.execute_activity(
        str(LeaseActivityId(lease.batch.role)),
        lease,
        task_queue=_queue(lease),
        summary=f"{lease.span.start} to {lease.span.stop - 1}",
        heartbeat_timeout=timedelta(seconds=lease.batch.heartbeat_timeout_s),
        start_to_close_timeout=LEASE_LIMIT,
        retry_policy=RETRIES,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    try:
        return Worked.model_validate(worked)
    except ValidationError:
        return None


def _queue(lease: Lease) -> str:
    """
    Choose where a lease waits: one that was lent before takes a slot of the role's
    tasks, of which every live worker has some, and is not behind all other leases.
    """
    role = lease.batch.role
    if lease.alone:
        return alone_queue_of(role)
    return queue_of(role) if lease.again else lease_queue_of(role)


def charge(lease: Lease, verdict: Verdict) -> tuple[Lease, list[Lease]]:
    """
    Count a death for each item that was in hand. Returns what of the lease is to be
    lent again, and beside it a lease for each item that goes on alone.
    """
    deaths = dict(lease.deaths)
    for item in held(verdict):
        deaths[item] = deaths.get(item, 0) + 1
    suspects = [] if lease.alone else _suspects(lease, deaths)
    alone = [
        Lease(
            batch=lease.batch,
            span=Span(start=item, stop=item + 1),
            deaths={item: deaths.pop(item)},
            alone=True,
        )
        for item in suspects
    ]
    left = {"deaths": deaths, "skip": [*lease.skip, *suspects]}
    return lease.model_copy(update=left), alone


def _suspects(lease: Lease, deaths: dict[int, int]) -> list[int]:
    enough = lease.batch.policy.crashes
    return [i for i, n in deaths.items() if n >= enough and i not in lease.skip]


def held(verdict: Verdict) -> list[int]:
    """
    Read which items were in hand when a process died.
    """
    value = verdict.checkpoint.value if verdict.checkpoint else None
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, int)]


@dataclass
class Loan:
    """
    A lease from one attempt to the next: what its deaths have come to.

    :param died_at: when the last process died with it, or when it was lent first.
    """

    lease: Lease
    died_at: float
    quarantine: Quarantine = field(default_factory=Quarantine)
    empty_handed: int = 0  # deaths before an item was in hand, in no storm
    in_quarantine: bool = False  # the last death was

    @classmethod
    def of(cls, state: LoanState) -> "Loan":
        """
        Go on where an earlier run of the batch has left it.
        """
        return cls(**dict(state))

    @property
    def state(self) -> LoanState:
        """
        Say how far it is, for the next run of its batch.
        """
        return LoanState(**vars(self))

    def lend_again(self) -> None:
        """
        Go on after an attempt.
        """
        self.lease = self.lease.model_copy(update={"again": True})

    def died(self, verdict: Verdict, now: float) -> list[Lease]:
        """
        Count a death. Returns a lease for each item that goes on alone.
        """
        since_s, self.died_at = max(0.0, now - self.died_at), now
        self.lease, alone = charge(self.lease, verdict)
        in_hand = held(verdict)
        # A death before the item was in hand is not its own.
        self.in_quarantine = self.lease.alone and self.lease.span.start in in_hand
        if self.in_quarantine:
            self.quarantine = self.quarantine.after(verdict.death, since_s)
        if not in_hand and not verdict.death.stormy(since_s):
            self.empty_handed += 1
        return alone

    def wait_s(self, ran_s: float, draw: float) -> float:
        """
        Choose the wait before the next attempt, where the last had run for *ran_s*.
        """
        return self.quarantine.wait_s(ran_s, draw) if self.in_quarantine else 0.0

    @property
    def convicted(self) -> bool:
        """
        Whether its one item is given up.
        """
        deaths = self.lease.deaths.get(self.lease.span.start, 0)
        return self.in_quarantine and self.quarantine.poison and deaths >= CONVICTED

    @property
    def hopeless(self) -> bool:
        """
        Whether nobody can work on it.
        """
        return self.empty_handed > LEASE_DEATHS
