"""
`outlast.Client` and `outlast.Handle`: missions for a program that is not a worker.

A mission that was started ends with its report, however often the server, the workers
or the program that started it go away.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report
from outlast.dev.stack_client import temporal_of
from outlast.ledger.missions import ACCEPTED, MissionRecord, MissionRecords
from outlast.ledger.payloads import putting
from outlast.process.opening import open_store
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.outages import is_transient_grpc
from outlast.temporal.connect import connect, require_shared_store
from outlast.temporal.missions import (
    require_capacity,
    start_workflow,
    with_routes,
    with_store,
    without_large_inputs,
)
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.payload_storage import with_storage
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.updates import UNKNOWN_TO_SERVER, send_update
from outlast.temporal.workflow_calls import await_report


@dataclass(frozen=True)
class Handle:
    """
    One mission, started by this program or by another one. Only its report ends it.
    """

    id: str
    temporal: TemporalClient
    store: Store

    async def result(self) -> Report:
        """
        Wait for the mission's end, through any number of server restarts, and return
        its report.

        :raises BadInputError: when its workflow has refused the mission.
        :raises RefusedError: when its workflow was ended in Temporal by others; the
            message names the commands that resume it or end it.
        """
        return await await_report(
            self.workflow, Report.of_failure, self._recorded_report
        )

    async def status(self) -> str:
        """
        Say how the mission is: "running", "interrupted" where its workflow was ended
        in Temporal by others, or else the status of its report: "completed",
        "degraded", "failed" or "cancelled". Without an answer from the server it is
        what the store has.

        :raises BadInputError: when the store has no such mission.
        """
        with contextlib.suppress(RPCError):
            await Reconciler(self.temporal, self.store).check([self.id])
        entry = await self.store.run(self._records.find, self.id)
        if entry is None:
            raise BadInputError(
                f"no mission {self.id!r} is in the store at {self.store.place}: look "
                "for its id with `outlast list`"
            )
        return state_word(entry)

    async def cancel(self, reason: str = "cancelled") -> None:
        """
        End the mission now; what its tasks have done is kept.

        :param reason: for the report.
        :raises BadInputError: when it is not under way.
        :raises UnavailableError: when no workflow process answers.
        """
        await send_update(self.temporal, self.store, self.id, "cancel", reason)

    def task_results(self) -> dict[str, Any]:
        """
        Read the results that its tasks have so far, by task id.
        """
        return dict(self._records.results(self.id))

    @property
    def workflow(self) -> WorkflowHandle[Any, Report]:
        return self.temporal.get_workflow_handle(self.id, result_type=Report)

    @property
    def _records(self) -> MissionRecords:
        return MissionRecords(self.store)

    def _recorded_report(self, error: RPCError) -> Report | None:
        """
        Read the report where the server has forgotten the mission; None when the
        server is only away.
        """
        if is_transient_grpc(error.status.name):
            return None
        entry = self._records.find(self.id)
        if entry is not None and entry.report is not None:
            return entry.report
        unknown = error.status is RPCStatusCode.NOT_FOUND
        told = UNKNOWN_TO_SERVER if unknown else error.message
        raise OutlastError(f"mission {self.id}: {told}") from error


class Client:
    """
    Starts missions and finds them again, over one connection to Temporal and one
    store, for any number of calls.

        async with Client.connect() as client:
            handle = await client.start(mission)
            report = await handle.result()
    """

    def __init__(self, temporal: TemporalClient, store: Store) -> None:
        """
        Use a connection and a store that the caller has opened, and closes.
        """
        self._temporal = with_storage(temporal, lambda: store)
        self._store = store

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls) -> AsyncIterator[Self]:
        """
        Connect to the Temporal that the environment names, or to the development stack
        of this home, and open the store of the settings; both are closed at the end of
        the `async with` block.

        :raises UnavailableError: when no Temporal is found there.
        :raises BadInputError: when the workers of that Temporal cannot see the store.
        """
        chosen = settings()
        address = await temporal_of(chosen)
        require_shared_store(chosen, address)
        temporal = await connect(address)
        store = await asyncio.to_thread(open_store, chosen)
        try:
            yield cls(temporal, store)
        finally:
            await asyncio.to_thread(store.close)

    async def start(self, mission: Mission) -> Handle:
        """
        Start *mission*, or join it: the same id and content is the same mission.

        :raises BadInputError: when the mission is invalid, when its id was used for
            other content, or when the store's missions live on another Temporal.
        :raises TooManyError: when as many missions are open as may be.
        :raises UnavailableError: when no server takes it.
        """
        return await self.start_resolved(with_routes(mission))

    async def start_resolved(self, resolved: Mission) -> Handle:
        """
        Start a mission that `with_routes` has checked already; see `start`.
        """
        store, records = self._store, MissionRecords(self._store)
        resolved, bodies = without_large_inputs(
            with_store(resolved, store), store.largest
        )
        await require_known_server(self._temporal, store)
        if records.find(resolved.id) is None:
            require_capacity(store)
        entry = await asyncio.to_thread(records.open, resolved)
        if bodies:
            await asyncio.to_thread(_put_payloads, store, resolved.id, bodies)
        started = await start_workflow(self._temporal, resolved)
        if started or entry is None or not entry.interruption:
            # The server has it: a store that is away now must not deny that.
            await store.run(records.accept, resolved.id)
        return self.get(resolved.id)

    def get(self, mission: str) -> Handle:
        """
        Find the mission of the id *mission*; whether there is one shows at its first
        use.
        """
        return Handle(mission, self._temporal, self._store)


def state_word(entry: MissionRecord) -> str:
    """
    Say how a mission is, in the words of `Handle.status`.
    """
    return "running" if entry.state == ACCEPTED else entry.state


def _put_payloads(store: Store, mission: str, bodies: list[bytes]) -> None:
    with store.write() as connection:
        putting(mission, bodies)(connection)
