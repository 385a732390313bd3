"""
One run on a peer's own Temporal: started from where it was, joined, or ended.
"""

import asyncio
import os
import socket

from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import TooManyError
from outlast.contracts.ids import WorkerIdentity
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.contracts.scopes import Scope
from outlast.ledger.missions import MissionRecords
from outlast.mesh.core.effects import StartRun
from outlast.mesh.node.handover import current, import_progress
from outlast.store.database import Store
from outlast.temporal.client import Client as MissionClient
from outlast.temporal.client import Handle
from outlast.temporal.connect import (
    configuration,
    connect_when_available,
    on_loopback,
)
from outlast.temporal.missions import require_capacity
from outlast.temporal.workflow_calls import START_RETRY_S
from outlast.workflows.cancellation import is_cancelling

CAPACITY_CHECK_S = 1.0
MESH_CANCEL_LIMIT_S = 10.0
CONTINUED_ELSEWHERE = "it went on elsewhere in the mesh"


class LazyClient:
    """
    The connection to this peer's Temporal, made when it is first needed.
    """

    def __init__(self, peer: str) -> None:
        self._identity = str(
            WorkerIdentity(os.getpid(), socket.gethostname(), f"mesh-{peer}")
        )
        self._client: Client | None = None
        self._one_at_a_time = asyncio.Lock()

    async def client(self) -> Client:
        """
        Connect, however long the server does not answer.
        """
        async with self._one_at_a_time:
            if self._client is None:
                never = asyncio.Event()
                self._client = await connect_when_available(never, self._identity)
            assert self._client is not None
            return self._client


def endpoint_name(store_id: str) -> str:
    """
    Name what the runs of this peer depend on: two peers with the same name have one
    Temporal and one store of its missions.
    """
    found = configuration()
    target, namespace = found["target_host"], found.get("namespace", "default")
    # What listens on loopback is another one on each machine.
    where = f"{socket.gethostname()}/" if on_loopback(target) else ""
    return f"{where}{target}/{namespace}/{store_id[:12]}"


class MissionRuns:
    """
    Missions on the Temporal of *line*, recorded in *store*.
    """

    def __init__(self, store: Store, line: LazyClient) -> None:
        self._store = store
        self._records = MissionRecords(store)
        self._line = line

    async def start(self, wanted: StartRun) -> Handle:
        """
        Start the run from where it was, or join it.

        :raises BadInputError: when it cannot be started here; TooManyError when too
            many missions are open now.
        :raises UnavailableError: when the server or the store is away.
        """
        mission = mission_of(wanted)
        if await self._store.run(self._records.find, mission.id) is None:
            await self._wait_for_capacity()
            parts = current(wanted.progress.values(), mission.tasks)
            await self._store.run(import_progress, self._store, mission.id, parts)
        client = await self._line.client()
        return await MissionClient(client, self._store).start(mission)

    async def cancel_open(self, mission: str) -> None:
        """
        Cancel *mission*, if it is open here, and wait until it has ended.
        """
        while await self._is_open(mission):
            if not await self._request_cancel(mission):
                # The server does not know it: it would count as open for ever.
                gone = Report(mission=mission, status=MissionStatus.CANCELLED, tasks=[])
                await self._store.run(self._records.close, gone)
                return
            await asyncio.sleep(START_RETRY_S)

    async def _request_cancel(self, mission: str) -> bool:
        """
        Ask the server to cancel *mission*; False when it does not know it.
        """
        client = await self._line.client()
        handle = client.get_workflow_handle(mission)
        try:
            async with asyncio.timeout(MESH_CANCEL_LIMIT_S):
                await handle.execute_update("cancel", args=[CONTINUED_ELSEWHERE])
        except WorkflowUpdateFailedError:
            pass  # it has ended by itself, or is about to
        except RPCTimeoutOrCancelledError:
            # The client raises this for our limit, but also for our own cancellation.
            if is_cancelling():
                raise asyncio.CancelledError from None
        except TimeoutError:
            pass
        except RPCError as error:
            return error.status is not RPCStatusCode.NOT_FOUND
        return True

    async def _wait_for_capacity(self) -> None:
        while True:
            try:
                return await self._store.run(require_capacity, self._store)
            except TooManyError:
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _is_open(self, mission: str) -> bool:
        entry = await self._store.run(self._records.find, mission)
        return entry is not None and entry.finished_at is None


def mission_of(wanted: StartRun) -> Mission:
    """
    Make the mission of one epoch: in each of them its effects are those of the task.
    """
    ours = {"id": str(wanted.run), "scope": Scope(path=wanted.run.task)}
    return Mission.model_validate({**wanted.mission, **ours})
