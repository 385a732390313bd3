"""
A small pool: real books and the real workflow, leases worked off by a function that
dies as it is told.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.batches import (
    Batch,
    BatchReport,
    Lease,
    LeaseResult,
    PoolProgress,
    PoolState,
)
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.ids import (
    MISSIONS_QUEUE,
    LeaseActivityId,
    lease_queue,
    quarantine_queue,
    task_queue,
)
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.quarantine import UNSEEN_DEATH, Death
from outlast.contracts.retries import Policy
from outlast.fleet.workers import workflow_worker
from outlast.ledger.batches import BatchRecords
from outlast.ledger.item_results import ItemResults
from outlast.ledger.item_sql import write_results
from outlast.ledger.items import ItemRecords
from outlast.store.database import Store

ROLE = "worker"
OWN = Death(own=True)
BOUND_S = 30.0
BEAT_S = 0.1
BEAT = timedelta(seconds=BEAT_S)

Handle = WorkflowHandle[Any, BatchReport]


def ended(
    kind: str,
    *in_hand: int,
    cause: str = "exit report: killed",
    death: Death = UNSEEN_DEATH,
) -> Exception:
    """
    Make what a lease ends with when it ends without a word of its own.
    """
    details = FailureDetails(
        detected_by=Detector.EXIT,
        checkpoint=Checkpoint(value=list(in_hand)),
        attempts=1,
        death=death,
    )
    return ApplicationError(cause, details.dump(), type=kind, non_retryable=True)


async def reported(handle: Handle) -> BatchReport:
    """
    Wait for the report of a batch, failed or not.
    """
    try:
        return await handle.result()
    except WorkflowFailureError as error:
        report = BatchReport.of_failure(error.cause)
        if report is None:
            raise
        return report


async def no_missions(mission: Mission) -> Opening:
    raise AssertionError(mission)


@dataclass
class Lent:
    """
    A lease as it was lent, and where.
    """

    lease: Lease
    queue: str
    run: str

    @property
    def numbers(self) -> range:
        return range(self.lease.span.start, self.lease.span.stop)


@dataclass
class Pool:
    """
    One batch on workers inside the test's own process.

    :param kills: how often each item takes its process along.
    :param death: what is known of these deaths.
    :param ends: what the first leases end with, before any item.
    :param late: items whose process dies when their result is written already.
    """

    client: Client
    store: Store
    name: str = "b"
    kills: dict[int, int] = field(default_factory=dict)
    ends: list[Exception] = field(default_factory=list)
    late: dict[int, int] = field(default_factory=dict)
    death: Death = OWN
    beside: dict[int, list[int]] = field(default_factory=dict)
    item_s: float = 0.01
    stubborn: bool = False  # leases end no sooner than the gate opens
    slow: set[int] = field(default_factory=set)  # items that alone wait for the gate
    lent: list[Lent] = field(default_factory=list)
    played: Counter[int] = field(default_factory=Counter)
    now: int = 0
    most: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    nearly: asyncio.Event = field(default_factory=asyncio.Event)  # one item is left

    def __post_init__(self) -> None:
        self.batch = Batch(id=self.name, role=ROLE, policy=Policy(failures=2))
        self.batches = BatchRecords(self.store)
        self.items = ItemRecords(self.store)
        self.outcomes = ItemResults(self.store)
        self.batches.open_batch(self.batch)
        self.gate.set()

    def fill(self, numbers: Iterable[int], closed: bool = True) -> None:
        self.items.add(self.name, [(json.dumps({"n": n}), None) for n in numbers])
        if closed:
            self.batches.close_input(self.name)

    async def start(self, **more: Any) -> Handle:
        handle: Handle = await self.client.start_workflow(
            "Pool",
            PoolState(batch=self.batch, **more),
            id=self.name,
            task_queue=MISSIONS_QUEUE,
            result_type=BatchReport,
            start_signal="wake",
        )
        return handle

    async def run(self, count: int, **more: Any) -> BatchReport:
        """
        Work off *count* items to the report, within a bound.
        """
        self.fill(range(1, count + 1))
        async with self.at_work(), asyncio.timeout(BOUND_S):
            return await reported(await self.start(**more))

    async def progress(self, handle: Handle) -> PoolProgress:
        return await handle.query("progress", result_type=PoolProgress)

    async def until(self, handle: Handle, **wanted: int) -> PoolProgress:
        """
        Ask for the progress until it is as *wanted*.
        """
        async with asyncio.timeout(BOUND_S):
            while True:
                found = await self.progress(handle)
                if wanted.items() <= found.model_dump().items():
                    return found

    def results(self) -> set[int]:
        return {number for number, _, _ in self.outcomes.results(self.name)}

    def dead(self) -> dict[int, str]:
        return {each.item: each.cause for each in self.outcomes.dead_letters(self.name)}

    def alone(self) -> list[int]:
        """
        List the items that were lent alone, in order.
        """
        return [each.lease.span.start for each in self.lent if each.lease.quarantined]

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """
        Poll with a worker for the workflow and two for leases.
        """

        @activity.defn(name=str(LeaseActivityId(ROLE)))
        async def lease(lent: Lease) -> LeaseResult:
            return await self._work(lent)

        queues = {
            lease_queue(ROLE): 100,
            task_queue(ROLE): 100,
            quarantine_queue(ROLE): 1,
        }
        workers = [workflow_worker(self.client, self.store, no_missions)]
        for queue, most in queues.items():
            workers.append(
                Worker(
                    self.client,
                    task_queue=queue,
                    activities=[lease],
                    max_concurrent_activities=most,
                    build_id="test",
                    max_heartbeat_throttle_interval=BEAT,
                    default_heartbeat_throttle_interval=BEAT,
                )
            )
        async with AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(worker)
            yield

    async def _work(self, lease: Lease) -> LeaseResult:
        info = activity.info()
        self.lent.append(Lent(lease, info.task_queue, info.workflow_run_id or ""))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if not self.slow or lease.span.start in self.slow:
                await self._gated()
            if self.ends:
                raise self.ends.pop(0)
            return LeaseResult(settled=self._play(lease), dead=0, item_s=self.item_s)
        finally:
            self.now -= 1

    async def _gated(self) -> None:
        """
        Wait for the gate, beating, since a cancellation comes with a beat's answer.
        """
        while not self.gate.is_set():
            activity.heartbeat({"checkpoint": {}, "status_message": ""})
            with suppress(TimeoutError):
                try:
                    await asyncio.wait_for(self.gate.wait(), BEAT_S)
                except asyncio.CancelledError:
                    if self.stubborn:
                        await self.gate.wait()
                    raise

    def _play(self, lease: Lease) -> int:
        span, settled = lease.span, 0
        for number, _ in json.loads(self.items.read(self.name, span, 100_000)):
            if number in lease.skip:
                continue
            in_hand = [number, *self.beside.get(number, [])]
            if self.kills.get(number, 0) > 0:
                self.kills[number] -= 1
                held = in_hand if not lease.quarantined else [number]
                raise ended(FailureType.CRASHED, *held, death=self.death)
            self._settle(number)
            settled += 1
            if self.late.get(number, 0) > 0:
                self.late[number] -= 1
                raise ended(FailureType.CRASHED, number, death=self.death)
        return settled

    def _settle(self, number: int) -> None:
        self.played[number] += 1
        if self.slow and len(self.played) == self.items.pending(self.name, 0).items - 1:
            self.nearly.set()
        rows = [(number, json.dumps(2 * number), None)]
        with self.store.write(durable=False) as connection:
            write_results(connection, self.name, rows)
