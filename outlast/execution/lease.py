"""
One lease of a batch, from its claim to its last result, with the signs of life that
it sends meanwhile.
"""

import asyncio
import time
from collections.abc import Callable

from outlast.agents.agent import Agent
from outlast.agents.service_call import ServiceTrouble
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.batches import MAX_LEASE_RETRIES, Lease, LeaseResult, pool_task
from outlast.execution.in_flight import NULL_SLOT, InFlightSlot
from outlast.execution.item_workers import ADD_WORKER_AFTER_S
from outlast.execution.lease_items import LeaseItems
from outlast.execution.run_order import in_run_order
from outlast.execution.switch_interval import short_switch_interval
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.claim import Claim
from outlast.telemetry import semconv
from outlast.telemetry.process import telemetry


class LeaseExecution:
    """
    A *lease* under way at *worker*.

    :param fence: the right to write, as for an attempt at a task.
    """

    def __init__(
        self,
        agent: Agent,
        lease: Lease,
        fence: int | AttemptOrder,
        worker: WorkerContext,
        send: Callable[[Heartbeat], None] = lambda _: None,
        in_flight: InFlightSlot = NULL_SLOT,
    ) -> None:
        batch = lease.batch
        self.agent = agent
        self.lease = lease
        self.fence = fence
        self.worker = worker
        self.input = AttemptInput(
            mission=batch.id,
            tenant=batch.tenant,
            task=pool_task(lease.id, batch.role),
            policy=batch.policy.model_copy(update={"failures": MAX_LEASE_RETRIES}),
            last_route=True,
            store=batch.store,
        )
        self.in_flight = in_flight
        self.set_waiting: Callable[[bool], None] = lambda _: None
        self.claim: Claim | None = None
        self.retried = False  # by the server: the attempt before it failed or waited
        self.trouble = ServiceTrouble()
        self._send = send
        self._ledger = worker.ledger
        self._items: LeaseItems | None = None  # None until it is claimed

    @property
    def checkpoint(self) -> Checkpoint:
        """
        The items in flight, as a heartbeat or an exit report carries them.
        """
        return Checkpoint(value=self._items.in_flight.numbers if self._items else [])

    async def run(self) -> LeaseResult:
        """
        Settle every item of the lease.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        began = time.monotonic()
        with short_switch_interval():
            # From before the claim to the last write: a store that is away at either
            # end must not make the lease look lost.
            heartbeats = asyncio.ensure_future(self._heartbeat_loop())
            try:
                self._items = items = await self._begin()
                await items.settle_all()
            finally:
                heartbeats.cancel()
        return items.result(time.monotonic() - began)

    async def _begin(self) -> LeaseItems:
        batch = self.lease.batch
        self.worker.require_same_store(batch.store)
        if self.retried:
            with self.trouble.noting(batch.tenant):
                await self.worker.service_waits.require_service(
                    batch.id, batch.tenant, self.lease.id
                )
        self.claim = claim = await in_run_order(
            self._ledger,
            self.fence,
            self.input.mission,
            lambda: self._ledger.claim(self.input, self.agent.role, self.fence),
        )
        telemetry.tracer.describe(semconv.attempt_attributes(claim, self.agent.role))
        history = await self._ledger.store.run(self._ledger.load_history, self.lease)
        items = LeaseItems(
            self.agent, self.lease, self.worker, self.in_flight, claim, history
        )
        items.trouble = self.trouble
        return items

    async def _heartbeat_loop(self) -> None:
        """
        Send signs of life, and have the items looked after meanwhile.
        """
        heartbeat_at = 0.0
        while True:
            now = time.monotonic()
            if now - heartbeat_at >= self.worker.heartbeat_s:
                heartbeat_at = now
                self.heartbeat()
            if self._items is not None:
                self.set_waiting(self._items.tick())
            await asyncio.sleep(min(self.worker.heartbeat_s, ADD_WORKER_AFTER_S))

    def heartbeat(self) -> None:
        said = f"{self._items.settled if self._items else 0} settled"
        self._send(Heartbeat(checkpoint=self.checkpoint, status_message=said))
