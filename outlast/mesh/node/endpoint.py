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
from outlast.contracts.models import Mission
from outlast.contracts.policies import MESH_RUNS
from outlast.contracts.reports import Report, Status
from outlast.contracts.scopes import Scope
from outlast.contracts.text import CAUSE_CHARS, shorten
from outlast.ledger.missions import Books
from outlast.ledger.run_permits import Permits
from outlast.mesh.core.effects import Run
from outlast.mesh.node.handover import current, put
from outlast.store.database import Store
from outlast.temporal.connect import (
    configuration,
    connect_patiently,
    is_cancelled,
    on_loopback,
)
from outlast.temporal.missions import AGAIN_S, Started, refuse_too_many, start

logger = logging.getLogger("outlast.mesh")

Ended = Callable[[str, int, Report], None]

ROOM_S = 1.0
CANCEL_LIMIT_S = 10.0
AWAY = "it went on elsewhere in the mesh"


class Line:
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
                self._client = await connect_patiently(never, self._identity)
            assert self._client is not None
            return self._client

    def place(self, store: str) -> str:
        """
        Name what the runs of this peer hang on: two peers that share it all have one
        Temporal, and the *store* with its books.
        """
        found = configuration()
        target, namespace = found["target_host"], found.get("namespace", "default")
        # What listens on loopback is another one on each machine.
        where = f"{socket.gethostname()}/" if on_loopback(target) else ""
        return f"{where}{target}/{namespace}/{store[:12]}"


class Endpoint:
    """
    The runs in hand.

    :param line: to the Temporal that they run on.
    """

    def __init__(self, store: Store, permits: Permits, line: Line) -> None:
        self._store = store
        self._books = Books(store)
        self._permits = permits
        self._line = line
        self._ended: Ended = lambda *_: None
        self._slots = asyncio.Semaphore(MESH_RUNS)
        self._carried: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, tuple[str, int]] = {}
        self._held: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def begun(self) -> dict[str, tuple[str, int]]:
        """
        The missions under way, with task and epoch of each.
        """
        return dict(self._begun)

    @property
    def load(self) -> int:
        """
        Count the runs in hand, those that wait included.
        """
        return len(self._carried)

    def tell(self, ended: Ended) -> None:
        """
        Say who is to know how each run has ended that was not cancelled here.
        """
        self._ended = ended

    def run(self, wanted: Run) -> None:
        """
        Begin the run, join it, or go on with it.
        """
        mission = str(MeshRunId(wanted.task, wanted.epoch))
        self._held.discard(mission)
        if mission not in self._carried:
            task = asyncio.ensure_future(self._carry(mission, wanted))
            self._carried[mission] = task
            task.add_done_callback(lambda done: self._let_go(mission, done))

    def hold(self, task: str, epoch: int) -> None:
        """
        Let it stand where it is.
        """
        self._held.add(str(MeshRunId(task, epoch)))
        self._permits.withdraw(str(MeshRunId(task, epoch)))

    def cancel(self, task: str, epoch: int) -> None:
        """
        End the run: it is somebody else's, or done.
        """
        mission = str(MeshRunId(task, epoch))
        self.hold(task, epoch)
        if mission in self._carried:
            self._carried[mission].cancel()
        ending = asyncio.ensure_future(self._end_patiently(mission))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def cancel_others(self, kept: set[tuple[str, int]]) -> None:
        """
        End what earlier lives of this peer began and nobody here remembers.
        """
        known = {str(MeshRunId(task, epoch)) for task, epoch in kept}
        for mission in self._permits.entered:
            run = parse(MeshRunId, mission)
            if run and mission not in known:
                self.cancel(run.task, run.epoch)

    def drop(self, task: str, epoch: int) -> None:
        """
        Leave the run to a peer that shares this endpoint.
        """
        mission = str(MeshRunId(task, epoch))
        if mission in self._carried:
            self._carried[mission].cancel()
        self._forget(mission)

    def renew(self) -> None:
        """
        Give the word again that what is in hand may go on.
        """
        for mission in self._begun:
            if mission not in self._held:
                self._permits.grant(mission)

    def hold_all(self) -> None:
        """
        Let all stand: this peer leaves.
        """
        for task, epoch in self._begun.values():
            self.hold(task, epoch)

    def _let_go(self, mission: str, done: "asyncio.Task[None]") -> None:
        if self._carried.get(mission) is done:
            del self._carried[mission]
            self._begun.pop(mission, None)
        if not done.cancelled() and done.exception() is not None:
            logger.error("mesh.run_lost %s", mission, exc_info=done.exception())

    async def _carry(self, mission: str, wanted: Run) -> None:
        async with self._slots:
            self._begun[mission] = wanted.task, wanted.epoch
            report = await self._conduct(mission, wanted)
        self._begun.pop(mission, None)
        self._permits.drop(mission)
        self._ended(wanted.task, wanted.epoch, report)

    async def _conduct(self, mission: str, wanted: Run) -> Report:
        """
        See it to its end, however long its server or store is away.
        """
        entered = False
        while True:
            try:
                if not entered:  # again would hold what goes on meanwhile
                    self._permits.enter(mission)
                    entered = True
                asked = mission_of(wanted)
                started = await self._start(asked, wanted)
                return await started.report()
            except (UnavailableError, DBAPIError) as error:
                # The same again joins what was begun.
                logger.warning("mesh.endpoint_away: %s", error)
                await asyncio.sleep(AGAIN_S)
            except TooManyError:
                await asyncio.sleep(ROOM_S)  # others were faster
            except (OutlastError, ValidationError) as error:
                # What cannot begin here has failed: it must not stay undecided.
                return _failed(mission, error)
            except Exception:
                # While its owner lives nobody else takes it: it must not be let go.
                logger.exception("mesh.run_stumbled %s", mission)
                await asyncio.sleep(ROOM_S)

    async def _start(self, mission: Mission, wanted: Run) -> Started:
        """
        Start the mission from where it was, or join it.

        :raises BadInputError: when it cannot be started here.
        :raises UnavailableError: when nobody takes it now; TooManyError likewise.
        """
        if wanted.epoch > 1:
            # On an endpoint that peers share, the runs of the dead live on.
            for epoch in range(1, wanted.epoch):
                await self._end(str(MeshRunId(wanted.task, epoch)))
        if await self._store.run(self._books.find, mission.id) is None:
            await self._room()
            parts = current(wanted.parts.values(), mission.tasks)
            await self._store.run(put, self._store, mission.id, parts)
        client = await self._line.client()
        return await start(mission, client=client, store=self._store)

    async def _room(self) -> None:
        """
        Wait while as many missions are open here as may be.
        """
        while True:
            try:
                return await self._store.run(refuse_too_many, self._store)
            except TooManyError:
                await asyncio.sleep(ROOM_S)

    async def _end_patiently(self, mission: str) -> None:
        """
        End it however long the store is away, and whatever is in the way.
        """
        while True:
            try:
                return await self._end(mission)
            except Exception as error:
                logger.warning("mesh.endpoint_away: %r", error)
                await asyncio.sleep(ROOM_S)

    async def _end(self, mission: str) -> None:
        """
        Have *mission* end here, if it is under way, and wait until it has.
        """
        while await self._is_open(mission):
            client = await self._line.client()
            handle = client.get_workflow_handle(mission)
            try:
                async with asyncio.timeout(CANCEL_LIMIT_S):
                    await handle.execute_update("cancel", args=[AWAY])
            except WorkflowUpdateFailedError:
                pass  # it has ended by itself, or is about to
            except RPCTimeoutOrCancelledError:
                # The client's word for our limit, but also for our own cancellation.
                if is_cancelled():
                    raise asyncio.CancelledError from None
            except (RPCError, TimeoutError) as error:
                if _is_unknown(error):
                    # It would count as open for good.
                    gone = Report(mission=mission, status=Status.CANCELLED, tasks=[])
                    await self._store.run(self._books.close, gone)
                    break
            await asyncio.sleep(AGAIN_S)
        self._forget(mission)

    def _forget(self, mission: str) -> None:
        self._held.discard(mission)
        self._permits.drop(mission)

    async def _is_open(self, mission: str) -> bool:
        entry = await self._store.run(self._books.find, mission)
        return entry is not None and entry.finished_at is None


def mission_of(wanted: Run) -> Mission:
    """
    Make the mission of one epoch: in each of them its effects are those of the task.
    """
    ours = {
        "id": str(MeshRunId(wanted.task, wanted.epoch)),
        "scope": Scope(path=wanted.task),
    }
    return Mission.model_validate({**wanted.mission, **ours})


def _failed(mission: str, error: Exception) -> Report:
    cause = shorten(str(error), CAUSE_CHARS)
    return Report(mission=mission, status=Status.FAILED, tasks=[], degraded=[cause])


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND
