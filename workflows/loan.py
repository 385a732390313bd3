"""
One lease on its way: where it waits, and who is charged when its process dies.
"""

from datetime import timedelta

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.names import alone_queue_of, queue_of
    from outlast.contracts.pool import (
        Lease,
        Span,
        Worked,
        lease_queue_of,
        lease_type,
    )
    from workflows.dispatch import RETRIES
    from workflows.verdict import Verdict

LEASE_LIMIT = timedelta(days=7)
# Deaths of an item, the last of them alone, after which it is given up.
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
        lease_type(lease.batch.role),
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


def convicted(lease: Lease, verdict: Verdict) -> bool:
    """
    Say whether the item of a lease has died so often, and now alone, that it is given
    up. A death before it was in hand is not its own.
    """
    item = lease.span.start
    alone = lease.alone and item in held(verdict)
    return alone and lease.deaths[item] >= CONVICTED


def held(verdict: Verdict) -> list[int]:
    """
    Read which items were in hand when a process died.
    """
    value = verdict.checkpoint.value if verdict.checkpoint else None
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, int)]
