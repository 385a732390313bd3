"""
What starter, pool workflow and workers say to each other about batches.

An item is numbered from 1 in the order of its arrival and stays in the store; what
travels, and what a history holds, are ranges of numbers.
"""

from typing import ClassVar

from pydantic import Field

from outlast.contracts.failures import FailureType
from outlast.contracts.ids import BatchId, LeaseId, Name
from outlast.contracts.quarantine import Quarantine
from outlast.contracts.reports import FinalReport
from outlast.contracts.retries import Policy
from outlast.contracts.scopes import Scope, ScopedModel, batch_scope
from outlast.contracts.tasks import Task
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.contracts.wire import WireModel

# Leases that a batch has out at once. Workers pull, so more than they can take waits.
MAX_LEASES = 16
# What a lease should take: longer holds up a renewal of the workflow and is more to
# lend again after a death, shorter costs more events an item.
TARGET_LEASE_S = 1.5
FIRST_LEASE_ITEMS = 8
MAX_LEASE_ITEMS = 20_000
LEASE_GROWTH = 4

# How often a lease is tried again when not its items fail but the store does.
MAX_LEASE_RETRIES = 20
# A lease whose process dies again and again before it has an item in hand.
MAX_LEASE_CRASHES = 20
# A workflow begins a new run after so many events; its leases end first.
POOL_CONTINUE_AS_NEW_EVENTS = 4_000


def pool_task(id_: str, role: str) -> Task:
    """
    Make the task that a lease or an item is in the ledger; no user's has such an id.
    """
    return Task.model_construct(id=id_, role=role)


class Batch(ScopedModel):
    """
    Items for one agent; the items themselves are in the store with id *store*.
    """

    id: BatchId
    role: Name
    tenant: Name = "default"
    policy: Policy = Policy()
    store: str = ""
    heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s  # see `Mission`

    @property
    def logical(self) -> Scope:
        return self.scope or batch_scope(self.id)


class ItemRange(WireModel):
    """
    The items from *start* up to, not including, *stop*.
    """

    start: int = Field(ge=1)
    stop: int


class PendingItems(WireModel):
    """
    What of a batch is left to do, up to the item *up_to*.
    """

    ranges: list[ItemRange]
    up_to: int
    items: int
    closed: bool  # no more items will come


class Lease(WireModel):
    """
    A span lent to one worker.

    :param deaths: of processes, by item in hand; an item with two is not lent with
        others any more.
    """

    batch: Batch
    span: ItemRange
    skip: list[int] = Field(default=[])
    deaths: dict[int, int] = Field(default={})
    quarantined: bool = False
    redelivered: bool = False  # lent before, to a worker that did not finish it
    dispatch: int = 0  # counts what the pool dispatches: see `AttemptOrder`
    mean_item_s: float = 0.0  # what an item has taken so far, 0 when nobody knows

    @property
    def id(self) -> str:
        return str(
            LeaseId(self.span.start, "quarantine" if self.quarantined else "lease")
        )

    @property
    def one_by_one(self) -> bool:
        """
        Whether an agent that takes many items at once gets them singly, so that a
        death tells which one it was.
        """
        return bool(self.deaths) or self.quarantined


class LeaseResult(WireModel):
    """
    What a lease has come to.
    """

    settled: int
    dead: int
    item_s: float  # a worker's time for one item


class PoisonItem(WireModel):
    """
    An item that is given up.
    """

    batch: BatchId
    item: int
    deaths: int
    cause: str


class BatchReport(FinalReport):
    """
    How a batch ended.
    """

    failure_type = FailureType.BATCH_FAILED
    batch: BatchId
    items: int
    done: int
    dead: int
    cancelled: bool = False
    failed: str | None = None  # why nobody can work on it
    events: int = 0  # of history, in all runs


class LeaseState(WireModel):
    """
    What the deaths of a lease have come to: see `LeaseDispatch`.
    """

    lease: Lease
    died_at: float
    quarantine: Quarantine = Quarantine()
    idle_crashes: int = 0
    in_quarantine: bool = False


class PoolState(WireModel):
    """
    What a pool workflow carries from run to run.

    :param leases: that were out and were taken back.
    """

    batch: Batch
    read_up_to: int = 0  # the last item that was looked at
    lease_size: int = FIRST_LEASE_ITEMS
    settled: int = 0
    dead: int = 0
    events: int = 0
    dispatches: int = 0
    leases: list[LeaseState] = Field(default=[])


class PoolProgress(WireModel):
    """
    The answer to the query `mission_progress`.
    """

    inline: ClassVar[bool] = True
    batch: BatchId
    settled: int  # by leases that have ended
    dead: int
    leases: int
    lease_size: int
    events: int


def next_lease_size(items: int, item_s: float) -> int:
    """
    Choose how many items the next lease holds, from what an item took.
    """
    wanted = int(min(MAX_LEASE_ITEMS, TARGET_LEASE_S / max(item_s, 1e-9)))
    return max(1, min(wanted, items * LEASE_GROWTH, MAX_LEASE_ITEMS))
