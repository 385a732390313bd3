"""
One lease of a batch: one ordinary call an item, in a few lanes beside each other.

What is in hand is in the flight recorder, so that a death is charged to those items
and to no other.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from outlast.agents.item_context import ItemContext
from outlast.agents.registry import Agent, Degraded
from outlast.contracts.batches import LEASE_TRIES, Lease, Worked, pool_task
from outlast.contracts.errors import (
    OutlastError,
    ResultError,
    StaleAttemptError,
    StalledError,
    TaskError,
    TryLater,
)
from outlast.contracts.ids import FanOutId, ItemId, parse
from outlast.contracts.models import Assignment, Beat, Checkpoint, FollowUps
from outlast.contracts.policies import backoff_s
from outlast.contracts.text import CAUSE_CHARS
from outlast.execution.agent_call import Playing
from outlast.execution.attempt import Place
from outlast.execution.codec import Codec
from outlast.execution.exceptions import FINAL, NOBODYS_FAULT, failure_of, words_of
from outlast.execution.in_flight import NOBODY, Hand
from outlast.execution.item_queue import Item, Stock
from outlast.execution.item_workers import (
    LANE_WAITS_S,
    LANES,
    STALLS,
    Lane,
    Lanes,
    patience_s,
)
from outlast.execution.off_loop import off_loop
from outlast.execution.result_writer import Settling
from outlast.execution.results import encode
from outlast.execution.runs import in_order
from outlast.execution.switch_interval import brisk
from outlast.execution.tracebacks import tell
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.fence import Claim
from outlast.ledger.lease_ledger import ItemFailure, LeaseLedger
from outlast.ledger.payloads import is_folded
from outlast.secrets import masked
from outlast.telemetry.counters import DEAD_ITEMS, count
from outlast.telemetry.spans import about, describe

# Items that compute never wait for anything, and the event loop has beats to send and
# other leases to begin, each of which takes a few turns of it.
YIELD_AFTER_S = 0.005
YIELD_TURNS = 5

# As many numbers as a slot of the flight recorder and a heartbeat hold.
TOLD_ITEMS = 400


logger = logging.getLogger("outlast.attempt")


@dataclass(eq=False)
class Lent:
    """
    A lease under way at *place*.

    :param fence: the right to write, as for an attempt at a task.
    """

    agent: Agent
    lease: Lease
    fence: int | AttemptOrder
    place: Place
    send: Callable[[Beat], None] = lambda _: None
    hand: Hand = NOBODY
    tell_waiting: Callable[[bool], None] = lambda _: None
    claim: Claim | None = None
    settled: int = 0
    dead: int = 0
    busy_s: float = 0.0
    _in_hand: dict[int, None] = field(default_factory=dict)
    _stock: Stock = field(init=False)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        batch = self.lease.batch
        self.ledger = LeaseLedger.of(self.place.ledger)
        self.assignment = Assignment(
            mission=batch.id,
            tenant=batch.tenant,
            task=pool_task(self.lease.id, batch.role),
            policy=batch.policy.model_copy(update={"failures": LEASE_TRIES}),
            store=batch.store,
        )
        self._stocked = False
        fan_out = parse(FanOutId, batch.id)
        self._round = fan_out.round if fan_out else 1
        self._scope = batch.logical
        self._began: set[int] = set()  # by an earlier lease
        self._claimed: set[int] = set()  # by this one
        self._logged: set[str] = set()  # causes whose traceback is in the log
        self._yielded_at = time.monotonic()
        self._lanes = Lanes(self._drive, 1 if self.agent.one_by_one else LANES)

    @property
    def checkpoint(self) -> Checkpoint:
        """
        The items in hand, as a heartbeat or an exit report carries them.
        """
        return Checkpoint(value=list(islice(self._in_hand, TOLD_ITEMS)))

    async def work(self) -> Worked:
        """
        Settle every item of the lease.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        with brisk():
            return await self._work()

    async def _work(self) -> Worked:
        began = time.monotonic()
        # From before the claim to the last write: a store that is away at either end
        # must not make the lease look lost.
        pulse = asyncio.ensure_future(self._pulse())
        try:
            await self._settle_all(await self._begin())
        finally:
            pulse.cancel()
        wall_s = time.monotonic() - began
        item_s = min(wall_s, self.busy_s) / max(1, self.settled)
        return Worked(settled=self.settled, dead=self.dead, item_s=item_s)

    async def _settle_all(self, claim: Claim) -> None:
        try:
            await self._lanes.run()
            self._settling.close(claim)
        finally:
            await self._lanes.close()
            await self._settling.write(last=True)

    async def _begin(self) -> Claim:
        """
        Claim the lease and take over what an earlier one has left.
        """
        store = self.ledger.store
        self.place.own(self.lease.batch.store)
        self.claim = claim = await in_order(
            self.ledger,
            self.fence,
            self.assignment.mission,
            lambda: self.ledger.claim(self.assignment, self.agent.role, self.fence),
        )
        describe(about(claim, self.agent.role))
        found = await store.run(self.ledger.found, self.lease)
        self._began = found.begun
        self._settling = Settling(self.ledger, claim)
        self._stock = Stock(
            self.ledger, self.lease, found.failures, self.agent.batch_size
        )
        self._stocked = True
        return claim

    async def _drive(self, lane: Lane) -> None:
        while group := await self._stock.take(self._tell):
            await self._play(lane, group)
            lane.check()
            if time.monotonic() - self._yielded_at > YIELD_AFTER_S:
                for _ in range(YIELD_TURNS):
                    await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    async def _play(self, lane: Lane, group: list[Item]) -> None:
        """
        Play one item, or a group at once, and note what comes of it.
        """
        lane.since = time.monotonic()
        number = group[0].number
        ctx = self._context_of(group[0])
        try:
            self._hold(group)
            if number in self._began or number in self._claimed:
                await ctx.begin(again=number in self._claimed)
            await self._settle(group, await self._call(lane, group, ctx))
            self.busy_s += time.monotonic() - lane.since
        except (StaleAttemptError, *NOBODYS_FAULT, asyncio.CancelledError):
            raise
        except BaseException as error:
            # The edge towards the agent's code, which may raise anything.
            await self._fail(group, failure_of(error))
        finally:
            self._let_go(group, ctx)
        if self._settling.is_due:
            await self._settling.write()

    def _context_of(self, item: Item) -> ItemContext:
        assert self.claim is not None
        batch = self.lease.batch
        claim = Claim(
            batch.id,
            batch.tenant,
            str(ItemId(item.number)),
            self._round,
            self.claim.fence,
            attempt=1 + item.failures + self.lease.deaths.get(item.number, 0),
            scope=self._scope,
        )
        return ItemContext(self.agent, self.ledger, batch, claim)

    async def _call(self, lane: Lane, group: list[Item], ctx: ItemContext) -> list[Any]:
        texts = [item.body for item in group]
        for at, body in enumerate(texts):
            if is_folded(body):
                texts[at] = await self._whole(body)

        def read(agent: Agent) -> Any:
            return agent.read_items(texts)

        playing = Playing(self.agent, ctx, lane.starter, self.hand, self.place.left)
        lane.ctx = ctx
        try:
            value = await playing.result(read)
        finally:
            lane.ctx = None
            if ctx.is_beginning:
                await ctx.settled()
        if not self.agent.batch_size:
            return [value]
        if not isinstance(value, list) or len(value) != len(group):
            raise TaskError(f"{len(group)} items need a list of as many results")
        return value

    async def _whole(self, body: str) -> str:
        """
        Read an item that lies beside its row, since it is large.
        """
        whole = self.ledger.items.whole
        return await self.ledger.store.run(whole, self.lease.batch.id, body)

    def _hold(self, group: list[Item]) -> None:
        for item in group:
            self._in_hand[item.number] = None
        self._tell()

    def _tell(self) -> None:
        """
        Put the items in hand into the flight recorder, as many as have room there.
        """
        numbers = ",".join(map(str, islice(self._in_hand, TOLD_ITEMS)))
        self.hand.save(b'{"value":[%s]}' % numbers.encode())

    def _let_go(self, group: list[Item], ctx: ItemContext) -> None:
        for item in group:
            self._in_hand.pop(item.number, None)
        if ctx.begun:
            self._claimed.add(group[0].number)
            self._settling.close(ctx.claim)
        ctx.close()

    async def _settle(self, group: list[Item], values: list[Any]) -> None:
        """
        Have the results of *group* written; one that is refused is its own item's
        failure: the others are paid for.
        """
        codec, largest = self.agent.codec, self.ledger.store.largest
        for item, value in zip(group, values, strict=True):
            try:
                kept = await off_loop(_kept, value, codec, largest)
            except ResultError as refused:
                await self._fail([item], refused)
                continue
            self._settling.add((item.number, *kept))
            self.settled += 1

    async def _fail(self, group: list[Item], error: Exception) -> None:
        """
        Try again later, or give up; of a group each item is tried alone.
        """
        if len(group) > 1:
            self._stock.put_back(group)
            return
        (item,) = group
        item.failures += 1
        deaths = self.lease.deaths.get(item.number, 0)
        final = (
            isinstance(error, FINAL)
            or item.failures >= self.lease.batch.policy.failures
            or (isinstance(error, StalledError) and item.failures + deaths >= STALLS)
        )
        assert self.claim is not None
        cause, trace = tell(error, _told(error))
        self._log(item, cause, trace)
        failure = ItemFailure(item.number, item.failures, deaths, cause, final, trace)
        await self.ledger.store.run(self.ledger.trouble, self.claim, failure)
        if final:
            self.settled += 1
            self.dead += 1
            count(DEAD_ITEMS)
            return
        asked = error.after.total_seconds() if isinstance(error, TryLater) else None
        self._stock.put_off(item, asked or backoff_s(item.failures))

    def _log(self, item: Item, cause: str, trace: str) -> None:
        """
        Log an item's failure, with its traceback where no item of the lease has failed
        in the same way.
        """
        more = "" if cause in self._logged or not trace else f"\n{trace.rstrip()}"
        self._logged.add(cause)
        told = self.lease.batch.id, item.number, cause, more
        logger.warning("item.failed %s/%s: %s%s", *told)

    async def _pulse(self) -> None:
        """
        Beat, end what stalls, open a lane where all of them wait, and write meanwhile.
        """
        beaten_at = 0.0
        while True:
            now = time.monotonic()
            if now - beaten_at >= self.place.beat_s:
                beaten_at = now
                self.beat()
            if self.ledger.store.calls.waits:
                self._lanes.excuse()
            if self._stocked:
                self._look()
            await asyncio.sleep(min(self.place.beat_s, LANE_WAITS_S))

    def beat(self) -> None:
        """
        Send a sign of life.
        """
        said = f"{self.settled} settled"
        self.send(Beat(checkpoint=self.checkpoint, said=said))

    def _look(self) -> None:
        self._lanes.look(self._patience(), self._stock.more)
        self.tell_waiting(self._lanes.all_wait and not self._stock.more)
        self._settling.write_meanwhile()

    def _patience(self) -> float:
        """
        Say for how long an item may show no progress.
        """
        usual_s = self.busy_s / self.settled if self.settled else self.lease.usual_s
        return patience_s(self.lease.batch.policy.stall_s, usual_s)


def _kept(
    quickly: bool, value: Any, codec: Codec, largest: int
) -> tuple[str, str | None]:
    """
    Write what an item's agent returned as JSON, and say what it lacks.

    :raises LongLookError: when that takes long and should be done *quickly*.
    :raises ResultError: when it cannot be kept.
    """
    reason: str | None = None
    if isinstance(value, FollowUps):
        raise ResultError("an item's agent cannot ask for follow-up tasks")
    if isinstance(value, Degraded):
        reason, value = masked(value.reason, CAUSE_CHARS), value.result
    return encode(value, codec, largest, quickly), reason


def _told(error: Exception) -> str:
    kind = "" if isinstance(error, OutlastError) else f"{type(error).__name__}: "
    return masked(f"{kind}{words_of(error)}", CAUSE_CHARS)
