"""
Plain stand-ins for the pool: batches to fill, leases to lend without a server, and a
hand that remembers what it was told.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from unit_fakes import ROLE, TENANT

from outlast.agents.agent import Agent, Migrate
from outlast.contracts.attempts import AttemptInput, Heartbeat
from outlast.contracts.batches import Batch, ItemRange, Lease, LeaseResult, pool_task
from outlast.contracts.ids import LeaseId
from outlast.contracts.retries import Policy
from outlast.contracts.scopes import Scope
from outlast.execution.codec import Codec
from outlast.execution.lease import LeaseExecution
from outlast.execution.results import encode
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.batches import BatchRecords
from outlast.ledger.claim import Claim
from outlast.ledger.item_results import DeadLetter, ItemResults
from outlast.ledger.items import ItemRecords
from outlast.ledger.lease_ledger import ItemFailure
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store

BATCH = "trial"
BOUND_S = 20.0


def batch(name: str = BATCH, **more: Any) -> Batch:
    return Batch(id=name, tenant=TENANT, role=ROLE, **more)


def canonical(body: Any) -> str:
    """
    Write an item as the starter does.
    """
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def numbered(count: int) -> list[dict[str, int]]:
    """
    Make *count* items that each know their number.
    """
    return [{"n": number} for number in range(1, count + 1)]


@dataclass
class Shelf:
    """
    One batch's items on a real store, and what a lease may write to them.
    """

    store: Store
    name: str = BATCH
    fence: int = 0
    scope: Scope | None = None

    def __post_init__(self) -> None:
        self.batches = BatchRecords(self.store)
        self.items = ItemRecords(self.store)
        self.outcomes = ItemResults(self.store)
        self.ledger = Ledger(self.store)
        self.batches.open_batch(batch(self.name, scope=self.scope))

    def add(self, *bodies: Any, fault: str | None = None) -> None:
        self.items.add(self.name, [(canonical(body), fault) for body in bodies])

    def claim(self, start: int = 1) -> Claim:
        """
        Claim the lease that begins at *start*, with the next fence.
        """
        self.fence += 1
        task = pool_task(str(LeaseId(start)), ROLE)
        asked = AttemptInput(mission=self.name, tenant=TENANT, task=task)
        return self.ledger.claim(asked, ROLE, self.fence)

    def settle(self, *numbers: int, claim: Claim | None = None) -> None:
        """
        Record a result for each of *numbers*.
        """
        self.write({number: f"result {number}" for number in numbers}, claim)

    def write(self, found: dict[int, Any], claim: Claim | None = None) -> None:
        """
        Record results as a lease does.
        """
        rows = [(n, encode(value, Codec()), None) for n, value in found.items()]
        self.ledger.write_results(claim or self.claim(), rows, [], durable=True)

    def fail(self, number: int, cause: str = "ill", dead: bool = True) -> None:
        """
        Note an item's second failure.
        """
        self.ledger.record_item_failure(
            self.claim(), ItemFailure(number, 2, 0, cause, dead)
        )

    def read(self, start: int = 1, stop: int = 1_000_000, most: int = 1_000) -> Any:
        """
        Read what is left to do, as pairs.
        """
        span = ItemRange(start=start, stop=stop)
        found = json.loads(self.items.read(self.name, span, most))
        return [[number, json.loads(body)] for number, body in found]

    def pending(self, after: int = 0) -> list[tuple[int, int]]:
        found = self.items.pending(self.name, after).ranges
        return [(span.start, span.stop) for span in found]

    def results(self) -> dict[int, Any]:
        found = self.outcomes.results(self.name)
        return {number: json.loads(text) for number, text, _ in found}

    def dead(self) -> dict[int, DeadLetter]:
        return {each.item: each for each in self.outcomes.dead_letters(self.name)}


@dataclass
class Heard:
    """
    A hand that remembers which items it was told, in order.
    """

    told: list[list[int]] = field(default_factory=list)
    largest: int = 0
    leaks: int = 0

    def save(self, encoded: bytes) -> None:
        self.largest = max(self.largest, len(encoded))
        self.told.append(json.loads(encoded)["value"])

    def finish(self) -> None: ...

    def leak(self) -> None:
        self.leaks += 1

    def leak_ended(self) -> None:
        self.leaks -= 1


@dataclass
class Lender:
    """
    Lends leases of one batch to an agent function, each with the next fence.
    """

    shelf: Shelf
    threads: ThreadPoolExecutor
    policy: Policy = field(default_factory=Policy)
    beats: list[Heartbeat] = field(default_factory=list)
    on_beat: Callable[[Heartbeat], None] = lambda _: None
    beat_s: float = 0.01
    hand: Heard = field(default_factory=Heard)
    fence: int = 1_000
    scope: Scope | None = None

    def fill(self, bodies: Iterable[Any]) -> None:
        self.shelf.add(*bodies)

    def lent(
        self,
        play: Callable[..., Any],
        span: tuple[int, int] | None = None,
        *,
        batch_size: int = 0,
        migrate: Migrate | None = None,
        **more: Any,
    ) -> LeaseExecution:
        """
        Lend the items of *span*, all there are when None.
        """
        self.fence += 1
        found = self.shelf.batches.find(self.shelf.name)
        assert found is not None
        start, stop = span or (1, found.total + 1)
        lease = Lease(
            batch=batch(self.shelf.name, policy=self.policy, scope=self.scope),
            span=ItemRange(start=start, stop=stop),
            **more,
        )
        agent = Agent(
            ROLE, 1, play, policy=self.policy, migrate=migrate, batch_size=batch_size
        )
        place = WorkerContext(Ledger(self.shelf.store), self.beat_s)
        return LeaseExecution(agent, lease, self.fence, place, self._beat, self.hand)

    async def work(
        self, play: Callable[..., Any], span: tuple[int, int] | None = None, **more: Any
    ) -> LeaseResult:
        """
        Lend and have it worked off, within a bound.
        """
        async with asyncio.timeout(BOUND_S):
            return await self.lent(play, span, **more).run()

    def _beat(self, beat: Heartbeat) -> None:
        self.beats.append(beat)
        self.on_beat(beat)
