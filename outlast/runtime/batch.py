"""
Start a batch, feed it item by item, and wait for its end.
"""

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO

from pydantic import ValidationError
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from outlast.attempt.agent import load
from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.contracts.models import MISSIONS_QUEUE, shorten
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import ITEM_BYTES, Batch, BatchReport, PoolState
from outlast.runtime.settings import settings
from outlast.runtime.start import (
    AGAIN_S,
    AWAY,
    HAND_OVER_LIMIT_S,
    refuse_too_many,
)
from outlast.store.batches import Batches
from outlast.store.books import Books
from outlast.store.database import Store
from outlast.store.items import Items

# Items that are written at once as they come in.
CHUNK = 1_000
# How long items wait for company, and how often the pool is told of new ones.
LINGER_S = 0.1
WAKE_S = 0.5


@dataclass(frozen=True)
class Given:
    """
    An item as it came: its canonical JSON, or why it is none.
    """

    body: str
    fault: str | None = None


def resolve(role: str, name: str, tenant: str, store: Store) -> Batch:
    """
    Make the batch of *name* for the agent that plays *role*.

    :raises BadInputError: when no agent plays it, or the id is a mission's.
    """
    agents = load(settings().modules)
    if role not in agents:
        raise BadInputError(
            f"no agent plays {role!r}; there are {', '.join(sorted(agents))}"
        )
    if Books(store).find(name) is not None:
        raise BadInputError(f"{name!r} is a mission's id; choose another one")
    policy = agents[role].policy
    try:
        return Batch(id=name, role=role, tenant=tenant, policy=policy, store=store.id)
    except ValidationError as error:
        fault = error.errors()[0]
        raise BadInputError(f"the batch's {fault['loc'][0]}: {fault['msg']}") from None


def read_lines(file: BinaryIO, name: str) -> Iterator[Given]:
    """
    Read items from JSON lines, one after the other; blank lines are no items.
    """
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield _item(line, f"{name} line {number}")


def check(items: Iterable[Given]) -> int:
    """
    Read all *items* once and count them.

    :raises BadInputError: naming the line of the first that is none.
    """
    count = 0
    for each in items:
        if each.fault is not None:
            raise BadInputError(each.fault)
        count += 1
    return count


class _Coming:
    """
    Items as they come: read by a thread that nobody waits for, since a pipe may stay
    silent for ever.
    """

    def __init__(self, given: Iterable[Given]) -> None:
        self._queue: queue.Queue[Given | Exception | None] = queue.Queue(4 * CHUNK)
        threading.Thread(target=self._read, args=(given,), daemon=True).start()
        self._over = False

    def _read(self, given: Iterable[Given]) -> None:
        try:
            for each in given:
                self._queue.put(each)
        except Exception as error:
            self._queue.put(error)
        self._queue.put(None)

    def next(self) -> list[Given] | None:
        """
        Return what has come, at most a chunk of it; None at the end.

        :raises OSError: when the source breaks.
        """
        found: list[Given] = []
        deadline = time.monotonic() + LINGER_S
        while len(found) < CHUNK and not self._over:
            try:
                wait_s = max(0.0, deadline - time.monotonic())
                each = self._queue.get(timeout=wait_s)
            except queue.Empty:
                return found
            if isinstance(each, Exception):
                raise each
            if each is None:
                self._over = True
            else:
                found.append(each)
        return None if self._over and not found else found


@dataclass
class StartedBatch:
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
        self, given: Iterable[Given], tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """
        Put items into the store as they come, have the pool work on them meanwhile,
        and say when there are no more. *tell* hears how many have come.
        """
        came = _Coming(given)
        count, told, woken_at = 0, 0, 0.0
        while (chunk := await asyncio.to_thread(came.next)) is not None:
            if chunk:
                await asyncio.to_thread(self._add, chunk)
                count += len(chunk)
                tell(count)
            if count > told and time.monotonic() - woken_at > WAKE_S:
                await wake(self.client, self.batch)
                told, woken_at = count, time.monotonic()
        await asyncio.to_thread(Batches(self.store).seal, self.batch.id)
        await wake(self.client, self.batch)

    def _add(self, chunk: list[Given]) -> None:
        rows = [(each.body, each.fault) for each in chunk]
        Items(self.store).add(self.batch.id, rows)

    async def report(self) -> BatchReport:
        """
        Wait for the end, through any number of server restarts.

        :raises OutlastError: when the batch was terminated from outside.
        """
        while True:
            try:
                return await self.handle.result()
            except WorkflowFailureError as error:
                raise OutlastError(f"batch {self.batch.id}: {error.cause}") from error
            except RPCError as error:
                if error.status not in AWAY:
                    raise OutlastError(
                        f"batch {self.batch.id}: {error.message}"
                    ) from error
                await asyncio.sleep(AGAIN_S)


async def wake(client: Client, batch: Batch) -> None:
    """
    Start the batch's pool, or tell the one that runs to look again.

    :raises UnavailableError: when no server takes it.
    """
    deadline = asyncio.get_running_loop().time() + HAND_OVER_LIMIT_S
    while True:
        try:
            await client.start_workflow(
                "Pool",
                PoolState(batch=batch),
                id=batch.id,
                task_queue=MISSIONS_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
                static_summary=f"batch for {batch.role}",
                start_signal="wake",
            )
        except RPCError as error:
            late = asyncio.get_running_loop().time() > deadline
            if error.status not in AWAY or late:
                raise UnavailableError(
                    f"the server did not take the batch: {error.message}"
                ) from error
            await asyncio.sleep(AGAIN_S)
        else:
            return


def open_batch(batch: Batch, store: Store) -> None:
    """
    Enter *batch* in the store, or open it again for more items.

    :raises BadInputError: when too many missions and batches are open already.
    """
    batches = Batches(store)
    if batches.find(batch.id) is None:
        refuse_too_many(store)
    batches.open(batch)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """
    Read lines of at most one item's size and a little more; the rest of a longer one
    is left out.
    """
    whole = True
    while line := file.readline(2 * ITEM_BYTES):
        if whole:
            yield line
        whole = line.endswith(b"\n")


def _item(line: bytes, place: str) -> Given:
    if len(line.strip()) > ITEM_BYTES:
        told = shorten(line.decode(errors="replace"), 200)
        fault = f"{place}: an item of more than {ITEM_BYTES} bytes"
        return Given(json.dumps(f"{place}: {told}"), fault)
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        told = shorten(line.decode(errors="replace"), 200)
        return Given(json.dumps(f"{place}: {told}"), f"{place}: no JSON: {error}")
    if not isinstance(item, dict):
        return Given(json.dumps(item), f"{place}: an item must be a JSON object")
    try:
        body = json.dumps(item, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        return Given(json.dumps(place), f"{place}: no JSON: {error}")
    return Given(body)
