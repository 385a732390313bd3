"""
What starter, pool workflow and workers say to each other about batches.

An item is numbered from 1 in the order of its arrival and stays in the store; what
travels, and what a history holds, are ranges of numbers.
"""

from typing import ClassVar

from pydantic import Field, ValidationError

from outlast.contracts.errors import BATCH_FAILED
from outlast.contracts.names import BatchName, Name
from outlast.contracts.policies import SHIPPED, Policy
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.scopes import Scope, batch_scope
from outlast.contracts.state import Contract, State

# Leases that a batch has out at once. Workers pull, so more than they can take waits.
WINDOW = 16
# What a lease should take: longer holds up a renewal of the workflow and is more to
# lend again after a death, shorter costs more events an item.
LEASE_S = 1.5
FIRST_LEASE = 8
LARGEST_LEASE = 20_000
LEASE_GROWTH = 4

# How often a lease is tried again when not its items fail but the store does.
LEASE_TRIES = 20
# A lease whose process dies again and again before it has an item in hand.
LEASE_DEATHS = 20
# A workflow begins a new run after so many events; its leases end first.
RENEW_EVENTS = 4_000


def lease_queue_of(role: str) -> str:
    """
    Name the task queue on which workers take leases for *role*.
    """
    return f"outlast-pool-{role}"


def lease_type(role: str) -> str:
    """
    Name the activity that works through a lease.
    """
    return f"lease:{role}"


def lease_id(start: int, alone: bool = False) -> str:
    """
    Name a lease in the ledger; the item that runs alone is no rival to the rest.
    """
    return f"alone-{start}" if alone else f"lease-{start}"


def is_lease(task: str) -> bool:
    """
    Say whether a name in the ledger can be a lease's.
    """
    return task.startswith(("alone-", "lease-"))


def item_id(number: int) -> str:
    """
    Name an item in the ledger: in the order of numbers.
    """
    return f"item-{number:09d}"


class Batch(State):
    """
    Items for one agent; the items themselves are in the store with id *store*.
    """

    id: BatchName
    role: Name
    tenant: Name = "default"
    policy: Policy = Policy()
    store: str = ""
    heartbeat_timeout_s: float = SHIPPED.heartbeat_timeout_s  # see `Mission`
    scope: Scope | None = None  # where its effects' keys belong; None: the batch alone

    @property
    def logical(self) -> Scope:
        """
        The logical mission whose items these are.
        """
        return self.scope or batch_scope(self.id)


class Span(Contract):
    """
    The items from *start* up to, not including, *stop*.
    """

    start: int = Field(ge=1)
    stop: int


class Survey(Contract):
    """
    What of a batch is left to do, up to the item *up_to*.
    """

    pending: list[Span]
    up_to: int
    items: int
    sealed: bool  # no more items will come


class Lease(Contract):
    """
    A span lent to one worker.

    :param deaths: of processes, by item in hand; an item with two is not lent with
        others any more.
    """

    batch: Batch
    span: Span
    skip: list[int] = Field(default=[])
    deaths: dict[int, int] = Field(default={})
    alone: bool = False
    again: bool = False  # lent before, to a worker that did not finish it
    dispatch: int = 0  # counts what the pool dispatches: see `AttemptOrder`
    usual_s: float = 0.0  # what an item has taken so far, 0 when nobody knows

    @property
    def one_by_one(self) -> bool:
        """
        Whether an agent that takes many items at once gets them singly, so that a
        death tells which one it was.
        """
        return bool(self.deaths) or self.alone


class Worked(Contract):
    """
    What a lease has come to.
    """

    settled: int
    dead: int
    item_s: float  # a worker's time for one item


class Burial(Contract):
    """
    An item that is given up.
    """

    batch: BatchName
    item: int
    deaths: int
    cause: str


class BatchReport(Contract):
    """
    How a batch ended.
    """

    batch: BatchName
    items: int
    done: int
    dead: int
    cancelled: bool = False
    failed: str | None = None  # why nobody can work on it
    events: int = 0  # of history, in all runs


def batch_report_in(failure: object) -> BatchReport | None:
    """
    Read the report out of what a batch's workflow has failed with; None when it has
    failed of anything else.
    """
    details = list(getattr(failure, "details", ()))
    if getattr(failure, "type", None) != BATCH_FAILED or not details:
        return None
    try:
        return BatchReport.model_validate(details[0])
    except ValidationError:
        return None


class LoanState(Contract):
    """
    What the deaths of a lease have come to: see `Loan`.
    """

    lease: Lease
    died_at: float
    quarantine: Quarantine = Quarantine()
    empty_handed: int = 0
    in_quarantine: bool = False


class PoolState(Contract):
    """
    What a pool workflow carries from run to run.

    :param loans: leases that were out and were taken back.
    """

    batch: Batch
    surveyed: int = 0  # the last item that was looked at
    lease_size: int = FIRST_LEASE
    settled: int = 0
    dead: int = 0
    events: int = 0
    dispatches: int = 0
    loans: list[LoanState] = Field(default=[])


class PoolProgress(Contract):
    """
    The answer to the query `progress`.
    """

    inline: ClassVar[bool] = True
    batch: BatchName
    settled: int  # by leases that have ended
    dead: int
    leases: int
    lease_size: int
    events: int


def next_size(size: int, item_s: float) -> int:
    """
    Choose how many items the next lease holds, from what an item took.
    """
    wanted = int(min(LARGEST_LEASE, LEASE_S / max(item_s, 1e-9)))
    return max(1, min(wanted, size * LEASE_GROWTH, LARGEST_LEASE))
