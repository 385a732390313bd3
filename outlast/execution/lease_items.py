"""
The items of a lease, each from its call to its result, its retry or its dead letter:
one ordinary call an item, by a few workers beside each other.
"""

import asyncio
import logging
import time
from typing import Any

from outlast.agents.agent import Agent
from outlast.agents.item_context import ItemContext
from outlast.agents.service_call import ServiceTrouble
from outlast.contracts.batches import Lease, LeaseResult
from outlast.contracts.errors import (
    CircuitOpenError,
    OutlastError,
    ResultError,
    StaleAttemptError,
    StalledError,
    TaskError,
    TryLater,
)
from outlast.contracts.ids import FanOutId, ItemId, parse
from outlast.contracts.retries import backoff_s
from outlast.contracts.text import CAUSE_CHARS
from outlast.execution.agent_call import AgentCall
from outlast.execution.codec import off_loop
from outlast.execution.exceptions import (
    FINAL_ERRORS,
    UNCOUNTED_ERRORS,
    failure_of,
    message_of,
)
from outlast.execution.in_flight import InFlightSlot, ItemsInFlight
from outlast.execution.item_queue import ItemQueue, QueuedItem
from outlast.execution.item_workers import (
    MAX_ITEM_WORKERS,
    MAX_STALLS,
    ItemWorker,
    ItemWorkerPool,
    raise_if_cancelled,
    stall_timeout_s,
)
from outlast.execution.result_writer import ResultWriter
from outlast.execution.results import encode_item_result
from outlast.execution.service_waits import ALONE_PAUSE_S, FAILURES_ALONE
from outlast.execution.services import ServiceId
from outlast.execution.tracebacks import describe_failure
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.circuit_decision import CircuitState
from outlast.ledger.claim import Claim
from outlast.ledger.lease_ledger import ItemFailure, LeaseHistory
from outlast.ledger.payloads import is_stored
from outlast.secrets import masked
from outlast.telemetry.process import DEAD_ITEMS, telemetry

# Items that compute never wait for anything, and the event loop has heartbeats to send
# and other leases to begin, each of which takes a few turns of it.
YIELD_AFTER_S = 0.005
YIELD_TURNS = 5

# After so many items in a row that a service which is away has failed, the rest of the
# lease waits, too.
MAX_AWAY_IN_ROW = 20

logger = logging.getLogger("outlast.execution")


class LeaseItems:
    """
    What is left to do of a lease that was claimed.

    :param history: what earlier leases of these items have left.
    """

    def __init__(
        self,
        agent: Agent,
        lease: Lease,
        worker: WorkerContext,
        recorder: InFlightSlot,
        claim: Claim,
        history: LeaseHistory,
    ) -> None:
        self._ledger = ledger = worker.ledger
        self.in_flight = ItemsInFlight(recorder)
        self.settled = 0
        self._dead = 0
        self._busy_s = 0.0
        self._agent = agent
        self._lease = lease
        self._recorder = recorder
        self._leaked = worker.leaked
        self._services = worker.services
        self.trouble = ServiceTrouble()
        # What waits for a service ends the attempt at the lease, after all the rest.
        self._aside: CircuitOpenError | None = None
        self._away_in_row = 0
        self._claim = claim
        self._queue = ItemQueue(ledger, lease, history.failures, agent.batch_size)
        self._writer = ResultWriter(ledger, claim)
        most = 1 if agent.one_by_one else MAX_ITEM_WORKERS
        self._workers = ItemWorkerPool(self._work, most)
        fan_out = parse(FanOutId, lease.batch.id)
        self._round = fan_out.round if fan_out else 1
        self._scope = lease.batch.logical
        self._started = history.started  # items that an earlier lease has claimed
        self._claimed: set[int] = set()  # and this one
        self._logged: set[str] = set()  # causes whose traceback is in the log
        self._yielded_at = time.monotonic()

    def result(self, wall_s: float) -> LeaseResult:
        item_s = min(wall_s, self._busy_s) / max(1, self.settled)
        return LeaseResult(settled=self.settled, dead=self._dead, item_s=item_s)

    async def settle_all(self) -> None:
        """
        Work through the items until each has its result or is dead, all recorded.
        """
        try:
            await self._workers.run()
            if self._aside is not None:
                raise self._aside
            self._writer.close(self._claim)
        finally:
            await self._workers.close()
            await self._writer.flush(last=True)

    def tick(self) -> bool:
        """
        End what stalls, add a worker where all of them wait, and write what has waited
        for long; True if nothing is left but to wait for items.
        """
        if self._ledger.store.calls.is_waiting:
            self._workers.restart_clocks()
        lease, settled = self._lease, self.settled
        mean_s = self._busy_s / settled if settled else lease.mean_item_s
        limit_s = stall_timeout_s(lease.batch.policy.stall_s, mean_s)
        self._workers.tick(limit_s, self._queue.has_more)
        self._writer.flush_in_background()
        return self._workers.all_blocked and not self._queue.has_more

    async def _work(self, item_worker: ItemWorker) -> None:
        while group := await self._queue.take(self.in_flight.record):
            await self._run_group(item_worker, group)
            raise_if_cancelled()
            if time.monotonic() - self._yielded_at > YIELD_AFTER_S:
                for _ in range(YIELD_TURNS):
                    await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    async def _run_group(
        self, item_worker: ItemWorker, group: list[QueuedItem]
    ) -> None:
        """
        Run one item, or a group at once, and note what comes of it.
        """
        item_worker.since = time.monotonic()
        numbers = [item.number for item in group]
        number, ctx = numbers[0], self._context_of(group[0])
        try:
            self.in_flight.add(numbers)
            if number in self._started or number in self._claimed:
                await ctx.begin(redelivered=number in self._claimed)
            await self._accept_result(group, await self._call(item_worker, group, ctx))
            self._busy_s += time.monotonic() - item_worker.since
        except (StaleAttemptError, *UNCOUNTED_ERRORS, asyncio.CancelledError):
            raise
        except BaseException as error:
            # The edge towards the agent's code, which may raise anything.
            failure = failure_of(error)
            service = ctx.trouble.behind(failure)
            if service is None or not await self._set_aside(group, service, failure):
                await self._handle_failure(group, failure)
        finally:
            self.in_flight.discard(numbers)
            if ctx.has_started:
                self._claimed.add(number)
                self._writer.close(ctx.claim)
            ctx.close()
        if self._writer.is_due:
            await self._writer.flush()

    def _context_of(self, item: QueuedItem) -> ItemContext:
        batch = self._lease.batch
        claim = Claim(
            batch.id,
            batch.tenant,
            str(ItemId(item.number)),
            self._round,
            self._claim.fence,
            attempt=1 + item.failures + self._lease.deaths.get(item.number, 0),
            scope=self._scope,
        )
        ctx = ItemContext(self._agent, self._ledger, batch, claim)
        ctx.services = self._services
        return ctx

    async def _call(
        self, item_worker: ItemWorker, group: list[QueuedItem], ctx: ItemContext
    ) -> list[Any]:
        texts = [item.body for item in group]
        for at, body in enumerate(texts):
            if is_stored(body):  # it lies beside its row, since it is large
                texts[at] = await self._ledger.store.run(
                    self._ledger.items.full_body, self._lease.batch.id, body
                )

        def read(agent: Agent) -> Any:
            return agent.read_items(texts)

        call = AgentCall(
            self._agent, ctx, item_worker.starter, self._recorder, self._leaked
        )
        item_worker.ctx = ctx
        try:
            value = await call.result(read)
        finally:
            item_worker.ctx = None
            if ctx.is_beginning:
                await ctx.wait_until_started()
        if not self._agent.batch_size:
            return [value]
        if not isinstance(value, list) or len(value) != len(group):
            raise TaskError(f"{len(group)} items need a list of as many results")
        return value

    async def _accept_result(self, group: list[QueuedItem], values: list[Any]) -> None:
        """
        Have the results of *group* written; one that is refused is its own item's
        failure: the others are paid for.
        """
        self._away_in_row = 0
        codec, largest = self._agent.codec, self._ledger.store.largest
        for item, value in zip(group, values, strict=True):
            try:
                kept = await off_loop(encode_item_result, value, codec, largest)
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
        deaths = self._lease.deaths.get(item.number, 0)
        dead = is_dead(error, item.failures, deaths, self._lease.batch.policy.failures)
        cause, trace = describe_failure(error, _error_text(error))
        self._log(item, cause, trace)
        failure = ItemFailure(item.number, item.failures, deaths, cause, dead, trace)
        await self._ledger.store.run(
            self._ledger.record_item_failure, self._claim, failure
        )
        if dead:
            self.settled += 1
            self._dead += 1
            telemetry.counters.count(DEAD_ITEMS)
            return
        asked = error.after.total_seconds() if isinstance(error, TryLater) else None
        self._queue.requeue_after(item, asked or backoff_s(item.failures))

    async def _set_aside(
        self, group: list[QueuedItem], service: ServiceId, error: Exception
    ) -> bool:
        """
        Leave *group*, which *service* has failed, to a later attempt at the lease; the
        lease goes on with the rest as long as some of that succeeds. False where the
        service answers others: then it fails because of the items.
        """
        circuit = await self._services.circuit(service)
        if circuit.state is CircuitState.CLOSED:
            alone = max(item.failures_alone for item in group) + 1
            if alone > FAILURES_ALONE:
                return False
            for item in group:
                item.failures_alone = alone
                self._queue.requeue_after(item, min(ALONE_PAUSE_S, backoff_s(alone)))
            return True
        if self._aside is None:
            self._aside = CircuitOpenError(message_of(error), service.name)
            self.trouble.failed.append((self._aside, service))
        self._away_in_row += 1
        if self._away_in_row >= MAX_AWAY_IN_ROW:
            self._queue.stop()
        return True

    def _log(self, item: QueuedItem, cause: str, trace: str) -> None:
        """
        Log an item's failure, with its traceback where no item of the lease has failed
        in the same way.
        """
        more = "" if cause in self._logged or not trace else f"\n{trace.rstrip()}"
        self._logged.add(cause)
        told = self._lease.batch.id, item.number, cause, more
        logger.warning("item.failed %s/%s: %s%s", *told)


def is_dead(error: Exception, failures: int, deaths: int, most: int) -> bool:
    """
    True if an item that failed last by *error* is not tried again: at once, after
    *most* failures, or after a hang that is not its first failure or process death.
    """
    if isinstance(error, FINAL_ERRORS) or failures >= most:
        return True
    return isinstance(error, StalledError) and failures + deaths >= MAX_STALLS


def _error_text(error: Exception) -> str:
    kind = "" if isinstance(error, OutlastError) else f"{type(error).__name__}: "
    return masked(f"{kind}{message_of(error)}", CAUSE_CHARS)
