"""
Start a mission, once, and wait for its report however often the server goes away.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from outlast.agents.agent_check import require_fitting_inputs
from outlast.agents.agent_loading import load_agents, resolve_routes
from outlast.contracts.errors import (
    BadInputError,
    OutlastError,
    RefusedError,
    TooManyError,
    UnavailableError,
)
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.inputs import InputStorage
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.plan import Plan
from outlast.contracts.reports import Report
from outlast.contracts.text import title
from outlast.contracts.timing import DEFAULT_TIMING, timing_of
from outlast.dev.stack_client import temporal_of
from outlast.ledger.missions import MissionRecords
from outlast.ledger.payloads import putting
from outlast.process.opening import open_store
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.outages import is_transient_grpc
from outlast.store.output_roots import writing_within
from outlast.temporal.connect import connect, describe_address, require_shared_store
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.payload_storage import with_storage
from outlast.temporal.reconcile import interrupted, why_ended, workflow_state

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastStatus")
TENANT_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastTenant")

START_RETRY_S = 0.3
START_ONCE: dict[str, Any] = {
    "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
}
START_AGAIN: dict[str, Any] = {"id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE}
UNKNOWN_TO_STORE = (
    "this server does not know it; start it again with the same id and file, or with "
    "outlast resume"
)
# A mission that could not be handed over for so long is given back to the caller.
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class MissionHandle:
    """
    A mission that the server has: nothing but its report ends it.
    """

    id: str
    handle: WorkflowHandle[Any, Report]
    records: MissionRecords

    async def report(self) -> Report:
        """
        Wait for the end, through any number of server restarts and of resets.

        :raises BadInputError: when its workflow has refused what it was given.
        :raises RefusedError: when it was ended in Temporal, by others.
        """
        ended = ""
        while True:
            try:
                return await self.handle.result()
            except WorkflowFailureError as error:
                report = Report.of_failure(error.cause)
                if report is not None:
                    return report
                refuse_bad_input(error)
                ended = await require_open_workflow(self.handle, self.id, ended)
            except RPCError as error:
                kept = self._from_records(error)
                if kept is not None:
                    return kept
                await asyncio.sleep(START_RETRY_S)

    def results(self) -> dict[str, Any]:
        """
        Read the results of its tasks, by task id.
        """
        return dict(self.records.results(self.id))

    def _from_records(self, error: RPCError) -> Report | None:
        """
        Read the report where the server has forgotten the mission.
        """
        if is_transient_grpc(error.status.name):
            return None
        entry = self.records.find(self.id)
        if entry is None or entry.report is None:
            unknown = error.status is RPCStatusCode.NOT_FOUND
            told = UNKNOWN_TO_STORE if unknown else error.message
            raise OutlastError(f"mission {self.id}: {told}") from error
        return entry.report


def refuse_bad_input(error: WorkflowFailureError) -> None:
    """
    Say what a mission's workflow has refused.

    :raises BadInputError: in its words, if that is why it has failed.
    """
    if (
        isinstance(error.cause, ApplicationError)
        and error.cause.type == FailureType.BAD_INPUT
    ):
        raise BadInputError(error.cause.message) from None


async def require_open_workflow(
    handle: WorkflowHandle[Any, Any], name: str, ended: str
) -> str:
    """
    Find out why a mission or batch has no report: after a reset it goes on, in another
    run of its workflow. Returns its latest run.

    :param ended: the run that is known to have ended without a report, or "".
    :raises RefusedError: when it was ended by others, with the commands that help.
    """
    try:
        seen = await workflow_state(handle)
        if seen.is_running or (seen.run and seen.run != ended):
            return seen.run
        why = await why_ended(handle, seen)
    except RPCError:
        await asyncio.sleep(START_RETRY_S)
        return ended
    raise RefusedError(interrupted(name, why))


def with_routes(mission: Mission) -> Mission:
    """
    Put the crew's routes into *mission* and check it whole, before anything starts:
    the plan, and each task's input against the type that its agent takes.

    :raises BadInputError: in one sentence.
    """
    agents = load_agents(settings().modules)
    resolved = mission.model_copy(update={"crew": resolve_routes(agents)})
    Plan(without_large_inputs(resolved, settings().largest_bytes)[0])
    with writing_within(settings().workers_output):
        require_fitting_inputs(resolved.tasks, agents)
    return resolved


def without_large_inputs(mission: Mission, largest: int) -> tuple[Mission, list[bytes]]:
    """
    Move the large inputs out of *mission*; returns too what the store must have of it
    before anybody gets it.

    :raises BadInputError: naming the task whose input cannot be kept.
    """
    moving = InputStorage(mission.id, largest)
    tasks = moving.stored(mission.tasks)
    return mission.model_copy(update={"tasks": tasks}), moving.bodies


def with_store(resolved: Mission, store: Store) -> Mission:
    """
    Say in a mission which store has its record, and how that times its attempts.
    """
    clocks = timing_of(store.one_host)
    found = {"store": store.id, "heartbeat_timeout_s": clocks.heartbeat_timeout_s}
    return resolved.model_copy(update=found)


async def fill_in(client: Client, store: Store, mission: Mission) -> Opening:
    """
    Find what *mission* lacks, which Temporal alone has started.

    :raises BadInputError: in one sentence.
    """
    # In a thread: where agents are not imported yet, the event loop must turn.
    found = with_store(await asyncio.to_thread(with_routes, mission), store)
    return Opening(
        crew=found.crew,
        store=found.store,
        heartbeat_timeout_s=found.heartbeat_timeout_s,
        has_search_attributes=await has_search_attributes(client),
    )


async def start(
    mission: Mission, *, client: Client | None = None, store: Store | None = None
) -> MissionHandle:
    """
    Start *mission*, or join it: the same id and content is the same mission.

    `await (await start(mission)).report()` waits for its end.

    :param client: of Temporal; None: one by the SDK's configuration, or of the
        development stack of this home.
    :param store: None: the one of the settings, a file or PostgreSQL.
    :raises BadInputError: when the mission is invalid, when its id was used for other
        content, when the workers cannot see the store, or when the store's missions
        live on another Temporal.
    :raises UnavailableError: when no server takes it.
    """
    return await start_resolved(with_routes(mission), client, store)


async def start_resolved(
    resolved: Mission, client: Client | None = None, store: Store | None = None
) -> MissionHandle:
    """
    Start a mission that `with_routes` has checked already; see `start`.
    """
    if client is None:
        address = await temporal_of(settings())
        if store is None:
            require_shared_store(settings(), address)
        client = await connect(address)
    kept = store or open_store(settings())
    client = with_storage(client, lambda: kept)
    resolved, bodies = without_large_inputs(with_store(resolved, kept), kept.largest)
    await require_known_server(client, kept)
    books = MissionRecords(kept)
    if books.find(resolved.id) is None:
        require_capacity(kept)
    entry = await asyncio.to_thread(books.open, resolved)
    if bodies:
        await asyncio.to_thread(_put_payloads, kept, resolved.id, bodies)
    handle = client.get_workflow_handle(resolved.id, result_type=Report)
    started = await start_workflow(client, resolved)
    if started or entry is None or not entry.interruption:
        # The server has it: that the store is away now must not say otherwise.
        await kept.run(books.accept, resolved.id)
    return MissionHandle(resolved.id, handle, books)


def _put_payloads(store: Store, mission: str, bodies: list[bytes]) -> None:
    with store.write() as connection:
        putting(mission, bodies)(connection)


def require_capacity(store: Store) -> None:
    """
    Take no more work than somebody can be waiting for.

    :raises TooManyError: past the configured number of open missions and batches.
    """
    most, now = settings().max_open, MissionRecords(store).count_open()
    if now >= most:
        raise TooManyError(
            f"{now} missions and batches are open, and OUTLAST_MAX_OPEN is {most}: "
            "wait for some to end, or cancel them"
        )


async def start_workflow(
    client: Client, mission: Mission, restart: bool = False
) -> bool:
    """
    Give the mission to the server, again and again while it is away: the id makes
    that safe. False when the server has a workflow of that id which is not joined.

    :param restart: begin anew where its workflow has ended; else join the one that
        runs.
    :raises UnavailableError: when no server takes it.
    """
    how = START_AGAIN if restart else START_ONCE
    tags = await search_attributes(client, mission)
    deadline = asyncio.get_running_loop().time() + START_LIMIT_S
    while True:
        try:
            await client.start_workflow(
                "Supervisor",
                mission,
                id=mission.id,
                task_queue=MISSIONS_QUEUE,
                **how,
                task_timeout=timedelta(seconds=DEFAULT_TIMING.workflow_task_s),
                static_summary=title(mission.goal),
                search_attributes=tags,
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or not is_transient_grpc(error.status.name):
                raise UnavailableError(
                    f"Temporal at {describe_address(client)} did not take the mission: "
                    f"{error.message}"
                ) from error
            await asyncio.sleep(START_RETRY_S)
        else:
            return True


async def search_attributes(
    client: Client, mission: Mission
) -> TypedSearchAttributes | None:
    """
    Tag the mission for the Web UI, where the server knows our search attributes: a
    tag that it does not know would be refused.
    """
    if not await has_search_attributes(client):
        return None
    return TypedSearchAttributes(
        [
            SearchAttributePair(STATUS_ATTRIBUTE, "running"),
            SearchAttributePair(TENANT_ATTRIBUTE, mission.tenant),
        ]
    )


async def has_search_attributes(client: Client) -> bool:
    """
    Say whether the server has our search attributes.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await client.operator_service.list_search_attributes(request)
    except RPCError:
        return False  # not allowed to look, or away: a tag is not worth waiting for
    return {STATUS_ATTRIBUTE.name, TENANT_ATTRIBUTE.name} <= set(
        known.custom_attributes
    )
