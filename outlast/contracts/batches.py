"""
What clients, the pool's workflow and workers exchange about batches.

Items are numbered from 1 in the order of their arrival and stay in the store; ranges of
numbers travel, and a history holds those.
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

# In-flight leases of a batch. Workers pull, so more than they can take waits.
MAX_LEASES = 16
# Duration of a lease: longer delays a renewal of the workflow and redispatches more
# after a death, shorter costs more events per item.
TARGET_LEASE_S = 1.5
FIRST_LEASE_ITEMS = 8
MAX_LEASE_ITEMS = 20_000
LEASE_GROWTH = 4

# Retries of a lease when the store fails, not its items.
MAX_LEASE_RETRIES = 20
# Crashes of a lease before any item was in flight, after which the batch fails.
MAX_LEASE_CRASHES = 20
# Events after which a batch's workflow continues in a new run; its leases end first.
POOL_CONTINUE_AS_NEW_EVENTS = 4_000


def pool_task(id_: str, role: str) -> Task:
    """
    Make the task as which the ledger knows a lease or an item; no user's task has such
    an id.
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
    The items that are left to do, up to the item *up_to*.
    """

    ranges: list[ItemRange]
    up_to: int
    items: int
    closed: bool  # no more items will come


class Lease(WireModel):
    """
    A range of items for one worker.

    :param skip: items that were dispatched in quarantine leases.
    :param deaths: crashes by item that was in flight; after the policy's `crashes` the
        item gets a quarantine lease.
    """

    batch: Batch
    span: ItemRange
    skip: list[int] = Field(default=[])
    deaths: dict[int, int] = Field(default={})
    quarantined: bool = False
    redelivered: bool = False  # an earlier attempt did not finish it
    dispatch: int = 0  # counts what the pool dispatches: see `AttemptOrder`
    mean_item_s: float = 0.0  # 0 while it is unknown

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
    What one attempt of a lease has done.
    """

    settled: int
    dead: int
    item_s: float  # a worker's time for one item


class PoisonItem(WireModel):
    """
    An item to dead-letter because it kills its processes.
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
    failed: str | None = None  # why no worker can work on it
    events: int = 0  # of history, in all runs


class LeaseState(WireModel):
    """
    A lease and its crashes: see `workflows/redispatch.py`.

    :param died_at: when its process last died, or when it was first dispatched.
    :param idle_crashes: crashes before an item was in flight, outside of a storm.
    :param in_quarantine: whether its last crash was in quarantine.
    """

    lease: Lease
    died_at: float
    quarantine: Quarantine = Quarantine()
    idle_crashes: int = 0
    in_quarantine: bool = False


class PoolState(WireModel):
    """
    What a batch's workflow carries from run to run.

    :param read_up_to: the last item that was surveyed.
    :param leases: those that were handed back.
    """

    batch: Batch
    read_up_to: int = 0
    lease_size: int = FIRST_LEASE_ITEMS
    settled: int = 0
    dead: int = 0
    events: int = 0
    dispatches: int = 0
    leases: list[LeaseState] = Field(default=[])


class PoolProgress(WireModel):
    """
    The answer to the query `progress`.
    """

    inline: ClassVar[bool] = True
    batch: BatchId
    settled: int  # by leases that have ended
    dead: int
    leases: int
    lease_size: int
    events: int


def next_lease_size(items: int, item_s: float) -> int:
    wanted = int(min(MAX_LEASE_ITEMS, TARGET_LEASE_S / max(item_s, 1e-9)))
    return max(1, min(wanted, items * LEASE_GROWTH, MAX_LEASE_ITEMS))
