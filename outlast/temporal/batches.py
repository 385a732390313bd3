"""
Start a batch, feed it item by item, and wait for its end.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from outlast.agents.agent import Agent
from outlast.agents.agent_loading import for_roles, load_agents
from outlast.contracts.batches import Batch, BatchReport, PoolState
from outlast.contracts.errors import BadInputError, OutlastError
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.timing import DEFAULT_TIMING, timing_of
from outlast.contracts.validation_faults import faults_of
from outlast.ledger.batches import BatchRecords
from outlast.ledger.items import ItemRecords
from outlast.ledger.missions import MissionRecords
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.outages import is_transient_grpc
from outlast.temporal.item_source import BackgroundReader, SourceItem
from outlast.temporal.missions import require_capacity
from outlast.temporal.workflow_calls import await_report, start_until_taken

# The shortest time between two signals to the pool that there are new items.
WAKE_RETRY_S = 0.5


def require_agent(role: str) -> Agent:
    """
    Find the agent that plays *role*.

    :raises BadInputError: when there is none.
    """
    return for_roles(load_agents(settings().modules), [role])[role]


def resolve_batch(role: str, name: str, tenant: str, store: Store) -> Batch:
    """
    Make the batch of *name* for the agent that plays *role*.

    :raises BadInputError: when no agent plays it, or the id is a mission's.
    """
    policy = require_agent(role).policy
    if MissionRecords(store).find(name) is not None:
        raise BadInputError(f"{name!r} is a mission's id; choose another one")
    try:
        return Batch(
            id=name,
            role=role,
            tenant=tenant,
            policy=policy,
            store=store.id,
            heartbeat_timeout_s=timing_of(store.one_host).heartbeat_timeout_s,
        )
    except ValidationError as error:
        raise BadInputError(f"the batch's {faults_of(error)[0]}") from None


@dataclass
class BatchHandle:
    """
    A batch that the store has.
    """

    batch: Batch
    client: Client
    store: Store

    @property
    def handle(self) -> WorkflowHandle[Any, BatchReport]:
        return self.client.get_workflow_handle(self.batch.id, result_type=BatchReport)

    async def feed(
        self, given: Iterable[SourceItem], tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """
        Put items into the store as they come, have the pool work on them meanwhile,
        and say when there are no more. *tell* hears how many have come.
        """
        came = BackgroundReader(given)
        count, told, woken_at = 0, 0, 0.0
        while (chunk := await asyncio.to_thread(came.next)) is not None:
            if chunk:
                await asyncio.to_thread(self._add, chunk)
                count += len(chunk)
                tell(count)
            if count > told and time.monotonic() - woken_at > WAKE_RETRY_S:
                await start_or_wake_pool(self.client, self.batch)
                told, woken_at = count, time.monotonic()
        await asyncio.to_thread(BatchRecords(self.store).close_input, self.batch.id)
        await start_or_wake_pool(self.client, self.batch)

    def _add(self, chunk: list[SourceItem]) -> None:
        rows = [(each.body, each.error) for each in chunk]
        ItemRecords(self.store).add(self.batch.id, rows)

    async def report(self) -> BatchReport:
        """
        Wait for the end, through any number of server restarts.

        :raises RefusedError: when its workflow was ended in Temporal, by others.
        """
        return await await_report(
            self.handle, BatchReport.of_failure, self._require_transient
        )

    def _require_transient(self, error: RPCError) -> None:
        if not is_transient_grpc(error.status.name):
            raise OutlastError(f"batch {self.batch.id}: {error.message}") from error


async def start_or_wake_pool(client: Client, batch: Batch) -> None:
    """
    Start the batch's pool, or tell the one that runs to look again.

    :raises UnavailableError: when no server takes it.
    """
    await start_until_taken(
        client,
        "batch",
        lambda: client.start_workflow(
            "Pool",
            PoolState(batch=batch),
            id=batch.id,
            task_queue=MISSIONS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=timedelta(seconds=DEFAULT_TIMING.workflow_task_s),
            static_summary=f"batch for {batch.role}",
            start_signal="wake",
        ),
    )


def open_batch(batch: Batch, store: Store) -> None:
    """
    Enter *batch* in the store, or open it again for more items.

    :raises BadInputError: when too many missions and batches are open already.
    """
    batches = BatchRecords(store)
    if batches.find(batch.id) is None:
        require_capacity(store)
    batches.open_batch(batch)
