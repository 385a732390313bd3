"""
One lease of a batch: one ordinary call an item, results written many at a time.

Items are played one after another in a lane. When all lanes wait for an item that
takes its time, another lane is opened, up to a few: agents that wait for a service
get company, and an item that hangs holds nobody up. What is in hand is in the flight
recorder, so that a death is charged to those items and to no other.
"""

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import JsonValue

from outlast.attempt.agent import Agent, Degraded
from outlast.attempt.counts import DEAD_ITEMS, count
from outlast.attempt.fence import Claim
from outlast.attempt.guard import Place, call, encode
from outlast.attempt.hands import NOBODY, Hand
from outlast.attempt.item import ItemRun
from outlast.attempt.leaseledger import LeaseLedger
from outlast.attempt.spans import about, describe
from outlast.contracts.errors import (
    GiveUp,
    OutlastError,
    ParkedError,
    ResultError,
    StaleAttemptError,
    StalledError,
    TryLater,
)
from outlast.contracts.models import (
    CAUSE_CHARS,
    Assignment,
    Beat,
    Checkpoint,
    FollowUps,
    Task,
    shorten,
)
from outlast.contracts.policies import Policy, backoff_s
from outlast.contracts.pool import LEASE_TRIES, Lease, Span, Worked, item_id, lease_id
from outlast.store.bulk import Settled

READ_ITEMS = 1_000
# Results that are not in the store yet: what one kill makes to be done again.
UNWRITTEN_MOST = 1_000
WRITE_ITEMS = 500
WRITE_AFTER_S = 0.1
# Trivial items never wait for anything, and the event loop has beats to send.
YIELD_AFTER_S = 0.01

LANES = 8
# As many numbers as a slot of the flight recorder holds.
TOLD_ITEMS = 400
LANE_WAITS_S = 0.2

# An item that hangs among items which take a moment need not use up the patience of
# its policy, which is made for the slow: what is usual here times this much, but
# never less than the floor. It gets one more chance.
# An agent that declares a stall_s of its own is taken at its word.
STALL_FACTOR = 100.0
STALL_FLOOR_S = 3.0
STALLS = 2


@dataclass(slots=True)
class Item:
    """
    An item on its way through the lease.
    """

    number: int
    body: str
    failures: int = 0
    stalls: int = 0
    single: bool = False  # its group has failed


@dataclass(slots=True)
class Lane:
    """
    One item after another, or a group of them for an agent that takes many.
    """

    task: "asyncio.Task[None] | None" = None
    run: ItemRun | None = None
    since: float = 0.0
    stalled: bool = False


@dataclass
class Lent:
    """
    A lease under way at *place*.

    :param fence: the right to write, as for an attempt at a task.
    """

    agent: Agent
    lease: Lease
    fence: int
    place: Place
    send: Callable[[Beat], None] = lambda _: None
    hand: Hand = NOBODY
    claim: Claim | None = None
    settled: int = 0
    dead: int = 0
    busy_s: float = 0.0
    _in_hand: dict[int, None] = field(default_factory=dict)
    _fresh: deque[Item] = field(default_factory=deque)
    _later: list[tuple[float, int, Item]] = field(default_factory=list)
    _rows: list[Settled] = field(default_factory=list)
    _writing: "asyncio.Future[Any] | None" = None
    _lanes: list[Lane] = field(default_factory=list)

    def __post_init__(self) -> None:
        batch, span = self.lease.batch, self.lease.span
        self.ledger = LeaseLedger.of(self.place.ledger)
        self.assignment = Assignment(
            mission=batch.id,
            tenant=batch.tenant,
            task=Task(id=lease_id(span.start, self.lease.alone), role=batch.role),
            policy=batch.policy.model_copy(update={"failures": LEASE_TRIES}),
            store=batch.store,
        )
        self._next = span.start
        self._reading = asyncio.Lock()
        self._began: set[int] = set()  # by an earlier lease
        self._claimed: set[int] = set()  # by this one
        self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="item")
        self._failures: dict[int, int] = {}
        self._closing: list[Claim] = []
        self._wrote_at = self._yielded_at = time.monotonic()

    @property
    def checkpoint(self) -> Checkpoint:
        """
        The items in hand, as a heartbeat or an exit report carries them.
        """
        return Checkpoint(value=list(self._in_hand))

    async def work(self) -> Worked:
        """
        Settle every item of the lease.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        began, store = time.monotonic(), self.ledger.store
        self.place.own(self.lease.batch.store)
        self.claim = await store.run(
            self.ledger.claim, self.assignment, self.agent.role, self.fence
        )
        describe(about(self.claim, self.agent.role))
        found = await store.run(self.ledger.found, self.lease)
        self._failures, self._began = found.failures, found.begun
        pulse = asyncio.ensure_future(self._pulse())
        try:
            await self._work_off()
            self._closing.append(self.claim)
        finally:
            pulse.cancel()
            self._threads.shutdown(wait=False)
            for lane in self._lanes:
                if lane.task is not None:
                    lane.task.cancel()
            await self._write(last=True)
        wall_s = time.monotonic() - began
        item_s = min(wall_s, self.busy_s) / max(1, self.settled)
        return Worked(settled=self.settled, dead=self.dead, item_s=item_s)

    async def _work_off(self) -> None:
        self._open_lane()
        while open_ := [lane.task for lane in self._lanes if lane.task is not None]:
            done, _ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._lanes = [lane for lane in self._lanes if lane.task is not task]
                task.result()

    def _open_lane(self) -> None:
        lane = Lane(since=time.monotonic())
        lane.task = asyncio.ensure_future(self._drive(lane))
        self._lanes.append(lane)

    async def _drive(self, lane: Lane) -> None:
        while group := await self._take(lane):
            await self._play(lane, group)
            now = time.monotonic()
            if now - self._yielded_at > YIELD_AFTER_S:
                await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    async def _take(self, lane: Lane) -> list[Item]:
        """
        Take the next items, waiting for one that is to be tried again later.
        """
        while True:
            now = time.monotonic()
            if self._later and self._later[0][0] <= now:
                return [heapq.heappop(self._later)[2]]
            if self._fresh or await self._read():
                return self._group()
            if not self._later:
                return []
            self._tell()
            await asyncio.sleep(max(0.0, self._later[0][0] - now))

    def _group(self) -> list[Item]:
        if self.agent.many == 0 or self.lease.one_by_one:
            return [self._fresh.popleft()]
        most = self.agent.many
        group: list[Item] = []
        while self._fresh and len(group) < most and not self._fresh[0].single:
            group.append(self._fresh.popleft())
        return group or [self._fresh.popleft()]

    async def _read(self) -> bool:
        """
        Read the next items; False when there are none.
        """
        async with self._reading:
            stop = self.lease.span.stop
            if self._fresh:
                return True
            if self._next >= stop:
                return False
            span = Span(start=self._next, stop=stop)
            text = await self.ledger.store.run(
                self.ledger.items.read, self.lease.batch.id, span, READ_ITEMS
            )
            found = json.loads(text)
            self._next = found[-1][0] + 1 if len(found) == READ_ITEMS else stop
            skip = set(self.lease.skip)
            self._fresh.extend(
                Item(number, body, self._failures.get(number, 0))
                for number, body in found
                if number not in skip
            )
            return bool(self._fresh)

    async def _play(self, lane: Lane, group: list[Item]) -> None:
        """
        Play one item, or a group at once, and note what comes of it.
        """
        lane.since = time.monotonic()
        run = self._run_of(group[0])
        try:
            self._hold(group)
            if run.begun:
                await run.begin(again=group[0].number in self._claimed)
            values = await self._watched(lane, group, run)
            for item, value in zip(group, values, strict=True):
                self._settle(item, value)
            self.busy_s += time.monotonic() - lane.since
        except StaleAttemptError:
            raise
        except Exception as error:
            # The edge towards the agent's code, which may raise anything.
            await self._fail(group, error)
        finally:
            self._let_go(group, run)
        if len(self._rows) >= WRITE_ITEMS or self._stale_rows():
            await self._write()

    async def _watched(self, lane: Lane, group: list[Item], run: ItemRun) -> list[Any]:
        """
        Call the agent while the pulse looks whether it makes progress.

        :raises StalledError: when it made none for too long.
        """
        lane.run = run
        try:
            return await self._call(group, run)
        except asyncio.CancelledError:
            if not lane.stalled or lane.task is None:
                raise
            lane.task.uncancel()
            self._replace_threads()
            waited = time.monotonic() - lane.since
            raise StalledError(f"no progress for {waited:.0f} s") from None
        finally:
            lane.run, lane.stalled = None, False

    def _replace_threads(self) -> None:
        """
        Leave a thread that hangs to itself: it cannot be ended, and the others must not
        run out of threads.
        """
        if not self.agent.is_async:
            self._threads.shutdown(wait=False)
            self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="item")

    def _run_of(self, item: Item) -> ItemRun:
        batch = self.lease.batch
        attempt = 1 + item.failures + self.lease.deaths.get(item.number, 0)
        name = item_id(item.number)
        claim = Claim(batch.id, batch.tenant, name, 1, self.fence, attempt)
        run = ItemRun(self.agent, self.ledger, batch, claim)
        run.begun = item.number in self._began | self._claimed
        return run

    async def _call(self, group: list[Item], run: ItemRun) -> list[Any]:
        many = self.agent.many > 0
        bodies = [_decoded(item) for item in group]
        given = self.agent.read(bodies if many else bodies[0], {})
        value = await call(self.agent, given, run, self._threads)
        if not many:
            return [value]
        if not isinstance(value, list) or len(value) != len(group):
            raise ResultError(f"{len(group)} items need a list of as many results")
        return value

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

    def _let_go(self, group: list[Item], run: ItemRun) -> None:
        for item in group:
            self._in_hand.pop(item.number, None)
        if run.begun:
            self._claimed.add(group[0].number)
            self._closing.append(run.claim)
        run.close()

    def _settle(self, item: Item, value: Any) -> None:
        reason: str | None = None
        if isinstance(value, FollowUps):
            raise ResultError("an item's agent cannot ask for follow-up tasks")
        if isinstance(value, Degraded):
            reason, value = shorten(value.reason, CAUSE_CHARS), value.result
        text = encode(value)
        self._rows.append((item.number, text, reason))
        self.settled += 1

    async def _fail(self, group: list[Item], error: Exception) -> None:
        """
        Try again later, or give up; of a group each item is tried alone.
        """
        if len(group) > 1:
            for item in group:
                item.single = True
            self._fresh.extendleft(reversed(group))
            return
        (item,) = group
        item.failures += 1
        item.stalls += isinstance(error, StalledError)
        final = (
            isinstance(error, GiveUp | ParkedError)
            or item.failures >= self.lease.batch.policy.failures
            or item.stalls >= STALLS
        )
        assert self.claim is not None
        await self.ledger.store.run(
            self.ledger.trouble,
            self.claim,
            item.number,
            item.failures,
            self.lease.deaths.get(item.number, 0),
            _told(error),
            final,
        )
        if final:
            self.settled += 1
            self.dead += 1
            count(DEAD_ITEMS)
            return
        asked = error.after.total_seconds() if isinstance(error, TryLater) else None
        due = time.monotonic() + (asked or backoff_s(item.failures))
        heapq.heappush(self._later, (due, item.number, item))

    def _stale_rows(self) -> bool:
        return bool(self._rows) and time.monotonic() - self._wrote_at > WRITE_AFTER_S

    async def _write(self, last: bool = False) -> None:
        """
        Write results behind the items' back, never more than one batch behind; the
        last write of a lease is durable, and with it all that came before.
        """
        full = len(self._rows) + WRITE_ITEMS > UNWRITTEN_MOST
        while (writing := self._writing) and (last or full or writing.done()):
            await asyncio.shield(writing)
            if self._writing is writing:
                self._writing = None
        if self._writing is not None or self.claim is None:
            return
        rows, self._rows = self._rows, []
        closing, self._closing = self._closing, []
        self._wrote_at = time.monotonic()
        self._writing = asyncio.ensure_future(
            self.ledger.store.run(self.ledger.settle, self.claim, rows, closing, last)
        )
        if last:
            await self._writing

    async def _pulse(self) -> None:
        """
        Beat, end what stalls, and open a lane where all of them wait.
        """
        beaten_at = 0.0
        while True:
            now = time.monotonic()
            if now - beaten_at >= self.place.beat_s:
                beaten_at = now
                said = f"{self.settled} settled"
                self.send(Beat(checkpoint=self.checkpoint, said=said))
            self._end_stalled(now)
            waits = [now - lane.since > LANE_WAITS_S for lane in self._lanes]
            if all(waits) and len(waits) < LANES and self._more():
                self._open_lane()
            await asyncio.sleep(min(self.place.beat_s, LANE_WAITS_S))

    def _more(self) -> bool:
        return bool(self._fresh) or self._next < self.lease.span.stop

    def _end_stalled(self, now: float) -> None:
        patience = self._patience()
        for lane in self._lanes:
            run = lane.run
            if run is None or lane.stalled or lane.task is None:
                continue
            if now - max(lane.since, run.progressed_at) > patience:
                lane.stalled = True
                lane.task.cancel()

    def _patience(self) -> float:
        """
        Say for how long an item may show no progress.
        """
        declared = self.lease.batch.policy.stall_s
        usual = self.busy_s / self.settled if self.settled else self.lease.usual_s
        if declared != Policy().stall_s or usual == 0:
            return declared  # the agent knows best, or nobody knows
        return min(declared, max(STALL_FLOOR_S, STALL_FACTOR * usual))


def _decoded(item: Item) -> JsonValue:
    try:
        body: JsonValue = json.loads(item.body)
    except (ValueError, RecursionError) as error:
        raise GiveUp(f"the item cannot be read: {error}") from None
    return body


def _told(error: Exception) -> str:
    try:
        words = str(error)
    except Exception as worse:
        words = f"its message raises {type(worse).__name__}"
    kind = "" if isinstance(error, OutlastError) else f"{type(error).__name__}: "
    return shorten(f"{kind}{words}", CAUSE_CHARS)
