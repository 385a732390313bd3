"""
The runs of a peer on its own Temporal: begun, held, gone on with, ended.

Each is an ordinary mission, which survives whatever missions survive. Nothing of it
happens without a permit, and a permit is never given for what the core has let go.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import OutlastError, TooManyError, UnavailableError
from outlast.contracts.ids import MeshRunId, WorkerIdentity, parse
from outlast.contracts.mesh_timing import MAX_MESH_RUNS
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.contracts.scopes import Scope
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.ledger.missions import MissionRecords
from outlast.ledger.run_permits import RunPermits
from outlast.mesh.core.effects import StartRun
from outlast.mesh.node.handover import current, import_progress
from outlast.store.database import Store
from outlast.temporal.connect import (
    configuration,
    connect_when_available,
    is_cancelling,
    on_loopback,
)
from outlast.temporal.missions import (
    START_RETRY_S,
    MissionHandle,
    require_capacity,
    start,
)

logger = logging.getLogger("outlast.mesh")

Ended = Callable[[str, int, Report], None]

CAPACITY_CHECK_S = 1.0
MESH_CANCEL_LIMIT_S = 10.0
CONTINUED_ELSEWHERE = "it went on elsewhere in the mesh"


class LazyClient:
    """
    The line to this peer's Temporal, made when it is first needed.
    """

    def __init__(self, peer: str) -> None:
        self._identity = str(
            WorkerIdentity(os.getpid(), socket.gethostname(), f"mesh-{peer}")
        )
        self._client: Client | None = None
        self._one_at_a_time = asyncio.Lock()

    async def client(self) -> Client:
        """
        Connect, however long nobody answers.
        """
        async with self._one_at_a_time:
            if self._client is None:
                never = asyncio.Event()
                self._client = await connect_when_available(never, self._identity)
            assert self._client is not None
            return self._client

    def endpoint(self, store: str) -> str:
        """
        Name what the runs of this peer hang on: two peers that share it all have one
        Temporal, and the *store* with its books.
        """
        found = configuration()
        target, namespace = found["target_host"], found.get("namespace", "default")
        # What listens on loopback is another one on each machine.
        where = f"{socket.gethostname()}/" if on_loopback(target) else ""
        return f"{where}{target}/{namespace}/{store[:12]}"


class TemporalEndpoint:
    """
    The runs in hand.

    :param line: to the Temporal that they run on.
    """

    def __init__(self, store: Store, permits: RunPermits, line: LazyClient) -> None:
        self._store = store
        self._books = MissionRecords(store)
        self._permits = permits
        self._client = line
        self._ended: Ended = lambda *_: None
        self._slots = asyncio.Semaphore(MAX_MESH_RUNS)
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, tuple[str, int]] = {}
        self._suspended: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> dict[str, tuple[str, int]]:
        """
        The missions under way, with task and epoch of each.
        """
        return dict(self._running)

    @property
    def load(self) -> int:
        """
        Count the runs in hand, those that wait included.
        """
        return len(self._watchers)

    def on_ended(self, ended: Ended) -> None:
        """
        Say who is to know how each run has ended that was not cancelled here.
        """
        self._ended = ended

    def run(self, wanted: StartRun) -> None:
        """
        Begin the run, join it, or go on with it.
        """
        mission = str(MeshRunId(wanted.task, wanted.epoch))
        self._suspended.discard(mission)
        if mission not in self._watchers:
            task = asyncio.ensure_future(self._watch_run(mission, wanted))
            self._watchers[mission] = task
            task.add_done_callback(lambda done: self._release(mission, done))

    def suspend(self, task: str, epoch: int) -> None:
        """
        Let it stand where it is.
        """
        self._suspended.add(str(MeshRunId(task, epoch)))
        self._permits.revoke(str(MeshRunId(task, epoch)))

    def cancel(self, task: str, epoch: int) -> None:
        """
        End the run: it is somebody else's, or done.
        """
        mission = str(MeshRunId(task, epoch))
        self.suspend(task, epoch)
        if mission in self._watchers:
            self._watchers[mission].cancel()
        ending = asyncio.ensure_future(self._cancel_until_ended(mission))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def cancel_others(self, kept: set[tuple[str, int]]) -> None:
        """
        End what earlier lives of this peer began and nobody here remembers.
        """
        known = {str(MeshRunId(task, epoch)) for task, epoch in kept}
        for mission in self._permits.all:
            run = parse(MeshRunId, mission)
            if run and mission not in known:
                self.cancel(run.task, run.epoch)

    def forget_run(self, task: str, epoch: int) -> None:
        """
        Leave the run to a peer that shares this endpoint.
        """
        mission = str(MeshRunId(task, epoch))
        if mission in self._watchers:
            self._watchers[mission].cancel()
        self._forget(mission)

    def renew_permits(self) -> None:
        """
        Give the word again that what is in hand may go on.
        """
        for mission in self._running:
            if mission not in self._suspended:
                self._permits.grant(mission)

    def suspend_all(self) -> None:
        """
        Let all stand: this peer leaves.
        """
        for task, epoch in self._running.values():
            self.suspend(task, epoch)

    def _release(self, mission: str, done: "asyncio.Task[None]") -> None:
        if self._watchers.get(mission) is done:
            del self._watchers[mission]
            self._running.pop(mission, None)
        if not done.cancelled() and done.exception() is not None:
            logger.error("mesh.run_lost %s", mission, exc_info=done.exception())

    async def _watch_run(self, mission: str, wanted: StartRun) -> None:
        async with self._slots:
            self._running[mission] = wanted.task, wanted.epoch
            report = await self._run_to_completion(mission, wanted)
        self._running.pop(mission, None)
        self._permits.remove(mission)
        self._ended(wanted.task, wanted.epoch, report)

    async def _run_to_completion(self, mission: str, wanted: StartRun) -> Report:
        """
        See it to its end, however long its server or store is away.
        """
        entered = False
        while True:
            try:
                if not entered:  # again would hold what goes on meanwhile
                    self._permits.add(mission)
                    entered = True
                asked = mission_of(wanted)
                started = await self._start(asked, wanted)
                return await started.report()
            except (UnavailableError, DBAPIError) as error:
                # The same again joins what was begun.
                logger.warning("mesh.endpoint_unavailable: %s", error)
                await asyncio.sleep(START_RETRY_S)
            except TooManyError:
                await asyncio.sleep(CAPACITY_CHECK_S)  # others were faster
            except (OutlastError, ValidationError) as error:
                # What cannot begin here has failed: it must not stay undecided.
                return _failed(mission, error)
            except Exception:
                # While its owner lives nobody else takes it: it must not be let go.
                logger.exception("mesh.run_failed %s", mission)
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _start(self, mission: Mission, wanted: StartRun) -> MissionHandle:
        """
        Start the mission from where it was, or join it.

        :raises BadInputError: when it cannot be started here.
        :raises UnavailableError: when nobody takes it now; TooManyError likewise.
        """
        if wanted.epoch > 1:
            # On an endpoint that peers share, the runs of the dead live on.
            for epoch in range(1, wanted.epoch):
                await self._cancel_open(str(MeshRunId(wanted.task, epoch)))
        if await self._store.run(self._books.find, mission.id) is None:
            await self._wait_for_capacity()
            parts = current(wanted.progress.values(), mission.tasks)
            await self._store.run(import_progress, self._store, mission.id, parts)
        client = await self._client.client()
        return await start(mission, client=client, store=self._store)

    async def _wait_for_capacity(self) -> None:
        """
        Wait while as many missions are open here as may be.
        """
        while True:
            try:
                return await self._store.run(require_capacity, self._store)
            except TooManyError:
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _cancel_until_ended(self, mission: str) -> None:
        """
        End it however long the store is away, and whatever is in the way.
        """
        while True:
            try:
                return await self._cancel_open(mission)
            except Exception as error:
                logger.warning("mesh.endpoint_unavailable: %r", error)
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _cancel_open(self, mission: str) -> None:
        """
        Have *mission* end here, if it is under way, and wait until it has.
        """
        while await self._is_open(mission):
            client = await self._client.client()
            handle = client.get_workflow_handle(mission)
            try:
                async with asyncio.timeout(MESH_CANCEL_LIMIT_S):
                    await handle.execute_update("cancel", args=[CONTINUED_ELSEWHERE])
            except WorkflowUpdateFailedError:
                pass  # it has ended by itself, or is about to
            except RPCTimeoutOrCancelledError:
                # The client's word for our limit, but also for our own cancellation.
                if is_cancelling():
                    raise asyncio.CancelledError from None
            except (RPCError, TimeoutError) as error:
                if _is_unknown(error):
                    # It would count as open for good.
                    gone = Report(
                        mission=mission, status=MissionStatus.CANCELLED, tasks=[]
                    )
                    await self._store.run(self._books.close, gone)
                    break
            await asyncio.sleep(START_RETRY_S)
        self._forget(mission)

    def _forget(self, mission: str) -> None:
        self._suspended.discard(mission)
        self._permits.remove(mission)

    async def _is_open(self, mission: str) -> bool:
        entry = await self._store.run(self._books.find, mission)
        return entry is not None and entry.finished_at is None


def mission_of(wanted: StartRun) -> Mission:
    """
    Make the mission of one epoch: in each of them its effects are those of the task.
    """
    ours = {
        "id": str(MeshRunId(wanted.task, wanted.epoch)),
        "scope": Scope(path=wanted.task),
    }
    return Mission.model_validate({**wanted.mission, **ours})


def _failed(mission: str, error: Exception) -> Report:
    cause = one_line(str(error), CAUSE_CHARS)
    return Report(
        mission=mission, status=MissionStatus.FAILED, tasks=[], degraded=[cause]
    )


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND
