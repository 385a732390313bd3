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

from outlast.agents.agent import Agent, Degraded
from outlast.agents.item_context import ItemContext
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.batches import MAX_LEASE_RETRIES, Lease, LeaseResult, pool_task
from outlast.contracts.errors import (
    OutlastError,
    ResultError,
    StaleAttemptError,
    StalledError,
    TaskError,
    TryLater,
)
from outlast.contracts.ids import FanOutId, ItemId, parse
from outlast.contracts.results import FollowUps
from outlast.contracts.retries import backoff_s
from outlast.contracts.text import CAUSE_CHARS
from outlast.execution.agent_call import AgentCall
from outlast.execution.attempt import WorkerContext
from outlast.execution.codec import Codec, off_loop
from outlast.execution.exceptions import (
    FINAL_ERRORS,
    UNCOUNTED_ERRORS,
    failure_of,
    message_of,
)
from outlast.execution.in_flight import NULL_SLOT, InFlightSlot
from outlast.execution.item_queue import ItemQueue, QueuedItem
from outlast.execution.item_workers import (
    ADD_WORKER_AFTER_S,
    MAX_ITEM_WORKERS,
    MAX_STALLS,
    ItemWorker,
    ItemWorkerPool,
    stall_timeout_s,
)
from outlast.execution.result_writer import ResultWriter
from outlast.execution.results import encode
from outlast.execution.run_order import in_run_order
from outlast.execution.switch_interval import short_switch_interval
from outlast.execution.tracebacks import describe_failure
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.fence import Claim
from outlast.ledger.lease_ledger import ItemFailure
from outlast.ledger.payloads import is_stored
from outlast.secrets import masked
from outlast.telemetry.counters import DEAD_ITEMS, count
from outlast.telemetry.spans import attempt_attributes, describe

# Items that compute never wait for anything, and the event loop has beats to send and
# other leases to begin, each of which takes a few turns of it.
YIELD_AFTER_S = 0.005
YIELD_TURNS = 5

# As many numbers as a slot of the flight recorder and a heartbeat hold.
MAX_RECORDED_ITEMS = 400


logger = logging.getLogger("outlast.execution")


@dataclass(eq=False)
class LeaseExecution:
    """
    A lease under way at *place*.

    :param fence: the right to write, as for an attempt at a task.
    """

    agent: Agent
    lease: Lease
    fence: int | AttemptOrder
    worker: WorkerContext
    send: Callable[[Heartbeat], None] = lambda _: None
    in_flight: InFlightSlot = NULL_SLOT
    set_waiting: Callable[[bool], None] = lambda _: None
    claim: Claim | None = None
    settled: int = 0
    dead: int = 0
    busy_s: float = 0.0
    _in_flight_items: dict[int, None] = field(default_factory=dict)
    _queue: ItemQueue = field(init=False)
    _writer: ResultWriter = field(init=False)

    def __post_init__(self) -> None:
        batch = self.lease.batch
        self.ledger = self.worker.ledger
        self.input = AttemptInput(
            mission=batch.id,
            tenant=batch.tenant,
            task=pool_task(self.lease.id, batch.role),
            policy=batch.policy.model_copy(update={"failures": MAX_LEASE_RETRIES}),
            store=batch.store,
        )
        self._has_queue = False
        fan_out = parse(FanOutId, batch.id)
        self._round = fan_out.round if fan_out else 1
        self._scope = batch.logical
        self._started_at: set[int] = set()  # by an earlier lease
        self._claimed: set[int] = set()  # by this one
        self._logged: set[str] = set()  # causes whose traceback is in the log
        self._yielded_at = time.monotonic()
        self._workers = ItemWorkerPool(
            self._worker_loop, 1 if self.agent.one_by_one else MAX_ITEM_WORKERS
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """
        The items in hand, as a heartbeat or an exit report carries them.
        """
        return Checkpoint(value=list(islice(self._in_flight_items, MAX_RECORDED_ITEMS)))

    async def run(self) -> LeaseResult:
        """
        Settle every item of the lease.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        with short_switch_interval():
            return await self._run()

    async def _run(self) -> LeaseResult:
        began = time.monotonic()
        # From before the claim to the last write: a store that is away at either end
        # must not make the lease look lost.
        heartbeats = asyncio.ensure_future(self._heartbeat_loop())
        try:
            await self._flush_all(await self._begin())
        finally:
            heartbeats.cancel()
        wall_s = time.monotonic() - began
        item_s = min(wall_s, self.busy_s) / max(1, self.settled)
        return LeaseResult(settled=self.settled, dead=self.dead, item_s=item_s)

    async def _flush_all(self, claim: Claim) -> None:
        try:
            await self._workers.run()
            self._writer.close(claim)
        finally:
            await self._workers.close()
            await self._writer.flush(last=True)

    async def _begin(self) -> Claim:
        """
        Claim the lease and take over what an earlier one has left.
        """
        store = self.ledger.store
        self.worker.require_same_store(self.lease.batch.store)
        self.claim = claim = await in_run_order(
            self.ledger,
            self.fence,
            self.input.mission,
            lambda: self.ledger.claim(self.input, self.agent.role, self.fence),
        )
        describe(attempt_attributes(claim, self.agent.role))
        found = await store.run(self.ledger.load_history, self.lease)
        self._started_at = found.started
        self._writer = ResultWriter(self.ledger, claim)
        self._queue = ItemQueue(
            self.ledger, self.lease, found.failures, self.agent.batch_size
        )
        self._has_queue = True
        return claim

    async def _worker_loop(self, item_worker: ItemWorker) -> None:
        while group := await self._queue.take(self._record_in_flight):
            await self._run_items(item_worker, group)
            item_worker.raise_if_failed()
            if time.monotonic() - self._yielded_at > YIELD_AFTER_S:
                for _ in range(YIELD_TURNS):
                    await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    async def _run_items(
        self, item_worker: ItemWorker, group: list[QueuedItem]
    ) -> None:
        """
        Play one item, or a group at once, and note what comes of it.
        """
        item_worker.since = time.monotonic()
        number = group[0].number
        ctx = self._context_of(group[0])
        try:
            self._mark_in_flight(group)
            if number in self._started_at or number in self._claimed:
                await ctx.begin(redelivered=number in self._claimed)
            await self._accept_result(group, await self._call(item_worker, group, ctx))
            self.busy_s += time.monotonic() - item_worker.since
        except (StaleAttemptError, *UNCOUNTED_ERRORS, asyncio.CancelledError):
            raise
        except BaseException as error:
            # The edge towards the agent's code, which may raise anything.
            await self._handle_failure(group, failure_of(error))
        finally:
            self._unmark(group, ctx)
        if self._writer.is_due:
            await self._writer.flush()

    def _context_of(self, item: QueuedItem) -> ItemContext:
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

    async def _call(
        self, item_worker: ItemWorker, group: list[QueuedItem], ctx: ItemContext
    ) -> list[Any]:
        texts = [item.body for item in group]
        for at, body in enumerate(texts):
            if is_stored(body):
                texts[at] = await self._full_body(body)

        def read(agent: Agent) -> Any:
            return agent.read_items(texts)

        playing = AgentCall(
            self.agent, ctx, item_worker.starter, self.in_flight, self.worker.leaked
        )
        item_worker.ctx = ctx
        try:
            value = await playing.result(read)
        finally:
            item_worker.ctx = None
            if ctx.is_beginning:
                await ctx.wait_until_started()
        if not self.agent.batch_size:
            return [value]
        if not isinstance(value, list) or len(value) != len(group):
            raise TaskError(f"{len(group)} items need a list of as many results")
        return value

    async def _full_body(self, body: str) -> str:
        """
        Read an item that lies beside its row, since it is large.
        """
        whole = self.ledger.items.full_body
        return await self.ledger.store.run(whole, self.lease.batch.id, body)

    def _mark_in_flight(self, group: list[QueuedItem]) -> None:
        for item in group:
            self._in_flight_items[item.number] = None
        self._record_in_flight()

    def _record_in_flight(self) -> None:
        """
        Put the items in hand into the flight recorder, as many as have room there.
        """
        numbers = ",".join(map(str, islice(self._in_flight_items, MAX_RECORDED_ITEMS)))
        self.in_flight.save(b'{"value":[%s]}' % numbers.encode())

    def _unmark(self, group: list[QueuedItem], ctx: ItemContext) -> None:
        for item in group:
            self._in_flight_items.pop(item.number, None)
        if ctx.has_started:
            self._claimed.add(group[0].number)
            self._writer.close(ctx.claim)
        ctx.close()

    async def _accept_result(self, group: list[QueuedItem], values: list[Any]) -> None:
        """
        Have the results of *group* written; one that is refused is its own item's
        failure: the others are paid for.
        """
        codec, largest = self.agent.codec, self.ledger.store.largest
        for item, value in zip(group, values, strict=True):
            try:
                kept = await off_loop(_values_of, value, codec, largest)
            except ResultError as refused:
                await self._handle_failure([item], refused)
                continue
            self._writer.add((item.number, *kept))
            self.settled += 1

    async def _handle_failure(self, group: list[QueuedItem], error: Exception) -> None:
        """
        Try again later, or give up; of a group each item is tried alone.
        """
        if len(group) > 1:
            self._queue.requeue_ungrouped(group)
            return
        (item,) = group
        item.failures += 1
        deaths = self.lease.deaths.get(item.number, 0)
        final = (
            isinstance(error, FINAL_ERRORS)
            or item.failures >= self.lease.batch.policy.failures
            or (
                isinstance(error, StalledError) and item.failures + deaths >= MAX_STALLS
            )
        )
        assert self.claim is not None
        cause, trace = describe_failure(error, describe_error(error))
        self._log(item, cause, trace)
        failure = ItemFailure(item.number, item.failures, deaths, cause, final, trace)
        await self.ledger.store.run(
            self.ledger.record_item_failure, self.claim, failure
        )
        if final:
            self.settled += 1
            self.dead += 1
            count(DEAD_ITEMS)
            return
        asked = error.after.total_seconds() if isinstance(error, TryLater) else None
        self._queue.requeue_after(item, asked or backoff_s(item.failures))

    def _log(self, item: QueuedItem, cause: str, trace: str) -> None:
        """
        Log an item's failure, with its traceback where no item of the lease has failed
        in the same way.
        """
        more = "" if cause in self._logged or not trace else f"\n{trace.rstrip()}"
        self._logged.add(cause)
        told = self.lease.batch.id, item.number, cause, more
        logger.warning("item.failed %s/%s: %s%s", *told)

    async def _heartbeat_loop(self) -> None:
        """
        Beat, end what stalls, open a lane where all of them wait, and write meanwhile.
        """
        heartbeat_at = 0.0
        while True:
            now = time.monotonic()
            if now - heartbeat_at >= self.worker.heartbeat_s:
                heartbeat_at = now
                self.heartbeat()
            if self.ledger.store.calls.is_waiting:
                self._workers.restart_clocks()
            if self._has_queue:
                self._tick()
            await asyncio.sleep(min(self.worker.heartbeat_s, ADD_WORKER_AFTER_S))

    def heartbeat(self) -> None:
        """
        Send a sign of life.
        """
        said = f"{self.settled} settled"
        self.send(Heartbeat(checkpoint=self.checkpoint, status_message=said))

    def _tick(self) -> None:
        self._workers.tick(self._stall_timeout_s(), self._queue.has_more)
        self.set_waiting(self._workers.all_blocked and not self._queue.has_more)
        self._writer.flush_in_background()

    def _stall_timeout_s(self) -> float:
        """
        Say for how long an item may show no progress.
        """
        usual_s = self.busy_s / self.settled if self.settled else self.lease.mean_item_s
        return stall_timeout_s(self.lease.batch.policy.stall_s, usual_s)


def _values_of(
    quickly: bool, value: Any, codec: Codec, largest: int
) -> tuple[str, str | None]:
    """
    Write what an item's agent returned as JSON, and say what it lacks.

    :raises SlowCheckError: when that takes long and should be done *quickly*.
    :raises ResultError: when it cannot be kept.
    """
    reason: str | None = None
    if isinstance(value, FollowUps):
        raise ResultError("an item's agent cannot ask for follow-up tasks")
    if isinstance(value, Degraded):
        reason, value = masked(value.reason, CAUSE_CHARS), value.result
    return encode(value, codec, largest, quickly), reason


def describe_error(error: Exception) -> str:
    kind = "" if isinstance(error, OutlastError) else f"{type(error).__name__}: "
    return masked(f"{kind}{message_of(error)}", CAUSE_CHARS)
