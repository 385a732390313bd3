"""
What of a lease is left to play: read as it is needed, and what failed comes later.
"""

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from outlast.contracts.batches import Lease, Span
from outlast.ledger.lease_ledger import LeaseLedger

READ_ITEMS = 1_000


@dataclass(slots=True)
class Item:
    """
    An item on its way through the lease.
    """

    number: int
    body: str
    failures: int = 0
    single: bool = False  # its group has failed


class Stock:
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
        self._most = 1 if many == 0 or lease.one_by_one else many
        self._next = lease.span.start
        self._reading = asyncio.Lock()
        self._fresh: deque[Item] = deque()
        self._later: list[tuple[float, int, Item]] = []

    @property
    def more(self) -> bool:
        """
        Whether there may be items that nobody has taken yet.
        """
        return bool(self._fresh) or self._next < self._lease.span.stop

    async def take(self, idle: Callable[[], None]) -> list[Item]:
        """
        Take the next items, none at the end. *idle* is called before each wait for one
        that is to be tried again later.
        """
        while True:
            now = time.monotonic()
            if self._later and self._later[0][0] <= now:
                return [heapq.heappop(self._later)[2]]
            if self._fresh or await self._read():
                return self._group()
            if not self._later:
                return []
            idle()
            await asyncio.sleep(max(0.0, self._later[0][0] - now))

    def put_off(self, item: Item, seconds: float) -> None:
        """
        Have *item* tried again later.
        """
        due = time.monotonic() + seconds
        heapq.heappush(self._later, (due, item.number, item))

    def put_back(self, group: list[Item]) -> None:
        """
        Have each item of *group* tried next, by itself.
        """
        for item in group:
            item.single = True
        self._fresh.extendleft(reversed(group))

    def _group(self) -> list[Item]:
        group: list[Item] = []
        while self._fresh and len(group) < self._most and not self._fresh[0].single:
            group.append(self._fresh.popleft())
        return group or [self._fresh.popleft()]

    async def _read(self) -> bool:
        """
        Read the next items; False when there are none.
        """
        async with self._reading:
            stop = self._lease.span.stop
            if self._fresh:
                return True
            if self._next >= stop:
                return False
            span = Span(start=self._next, stop=stop)
            text = await self._ledger.store.run(
                self._ledger.items.read, self._lease.batch.id, span, READ_ITEMS
            )
            found = json.loads(text)
            self._next = found[-1][0] + 1 if len(found) == READ_ITEMS else stop
            skip = set(self._lease.skip)
            self._fresh.extend(
                Item(number, body, self._failures.get(number, 0))
                for number, body in found
                if number not in skip
            )
            return bool(self._fresh)
