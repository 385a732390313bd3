"""
The items of a lease that are left to do: read as they are needed; one that failed comes
again later.
"""

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from outlast.contracts.batches import ItemRange, Lease
from outlast.ledger.lease_ledger import LeaseLedger

READ_AHEAD_ITEMS = 1_000


@dataclass(slots=True)
class QueuedItem:
    """
    An item on its way through the lease.
    """

    number: int
    body: str
    failures: int = 0
    ungrouped: bool = False  # its group has failed
    failures_alone: int = 0  # by a service that answered others meanwhile


class ItemQueue:
    """
    The items of *lease* for an agent that takes up to *many* at once, 0 for one that
    takes them singly.

    :param failures: how often each has failed in an earlier lease.
    """

    def __init__(
        self, ledger: LeaseLedger, lease: Lease, failures: dict[int, int], many: int
    ) -> None:
        self._ledger = ledger
        self._lease = lease
        self._failures = failures
        self._batch_size = 1 if many == 0 or lease.one_by_one else many
        self._next = lease.span.start
        self._reading = asyncio.Lock()
        self._ready: deque[QueuedItem] = deque()
        self._delayed: list[tuple[float, int, QueuedItem]] = []

    @property
    def has_more(self) -> bool:
        """
        True if there may be items that no worker has taken yet.
        """
        return bool(self._ready) or self._next < self._lease.span.stop

    async def take(self, idle: Callable[[], None]) -> list[QueuedItem]:
        """
        Take the next items, none at the end. *idle* is called before each wait for one
        that is to be tried again later.
        """
        while True:
            now = time.monotonic()
            if self._delayed and self._delayed[0][0] <= now:
                return [heapq.heappop(self._delayed)[2]]
            if self._ready or await self._read():
                return self._group()
            if not self._delayed:
                return []
            idle()
            await asyncio.sleep(max(0.0, self._delayed[0][0] - now))

    def stop(self) -> None:
        """
        Give out no more items: the rest is left to a later attempt at the lease.
        """
        self._ready.clear()
        self._delayed.clear()
        self._next = self._lease.span.stop

    def requeue_after(self, item: QueuedItem, seconds: float) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._delayed, (due, item.number, item))

    def requeue_ungrouped(self, group: list[QueuedItem]) -> None:
        for item in group:
            item.ungrouped = True
        self._ready.extendleft(reversed(group))

    def _group(self) -> list[QueuedItem]:
        group: list[QueuedItem] = []
        while (
            self._ready
            and len(group) < self._batch_size
            and not self._ready[0].ungrouped
        ):
            group.append(self._ready.popleft())
        return group or [self._ready.popleft()]

    async def _read(self) -> bool:
        async with self._reading:
            stop = self._lease.span.stop
            if self._ready:
                return True
            if self._next >= stop:
                return False
            span = ItemRange(start=self._next, stop=stop)
            text = await self._ledger.store.run(
                self._ledger.items.read, self._lease.batch.id, span, READ_AHEAD_ITEMS
            )
            found = json.loads(text)
            self._next = found[-1][0] + 1 if len(found) == READ_AHEAD_ITEMS else stop
            skip = set(self._lease.skip)
            self._ready.extend(
                QueuedItem(number, body, self._failures.get(number, 0))
                for number, body in found
                if number not in skip
            )
            return bool(self._ready)
