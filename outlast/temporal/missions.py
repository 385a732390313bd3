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

from outlast.agents.agent_check import refuse_misfits
from outlast.agents.agent_loading import crew, load
from outlast.contracts.errors import (
    BadInputError,
    OutlastError,
    RefusedError,
    TooManyError,
    UnavailableError,
)
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.inputs import Moving
from outlast.contracts.models import Mission, Opening
from outlast.contracts.plan import Plan
from outlast.contracts.policies import SHIPPED, timing_of
from outlast.contracts.reports import Report, report_in
from outlast.contracts.text import title
from outlast.dev.stack_client import temporal_of
from outlast.ledger.missions import Books
from outlast.ledger.payloads import putting
from outlast.process.opening import open_store
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.outages import passes
from outlast.store.output_roots import writing_below
from outlast.temporal.connect import connect, refuse_two_hosts, where_is
from outlast.temporal.own_temporal import refuse_another
from outlast.temporal.payload_storage import with_storage
from outlast.temporal.reconcile import interrupted, seen_of, why_ended

STATUS = SearchAttributeKey.for_keyword("OutlastStatus")
TENANT = SearchAttributeKey.for_keyword("OutlastTenant")

AGAIN_S = 0.3
ONCE: dict[str, Any] = {
    "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
}
AGAIN: dict[str, Any] = {"id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE}
UNKNOWN_HERE = (
    "this server does not know it; start it again with the same id and file, or with "
    "outlast resume"
)
# A mission that could not be handed over for so long is given back to the caller.
HAND_OVER_LIMIT_S = 60.0


@dataclass(frozen=True)
class Started:
    """
    A mission that the server has: nothing but its report ends it.
    """

    id: str
    handle: WorkflowHandle[Any, Report]
    books: Books

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
                report = report_in(error.cause)
                if report is not None:
                    return report
                refuse_bad_input(error)
                ended = await refuse_unless_it_goes_on(self.handle, self.id, ended)
            except RPCError as error:
                kept = self._from_books(error)
                if kept is not None:
                    return kept
                await asyncio.sleep(AGAIN_S)

    def results(self) -> dict[str, Any]:
        """
        Read the results of its tasks, by task id.
        """
        return dict(self.books.results(self.id))

    def _from_books(self, error: RPCError) -> Report | None:
        """
        Read the report where the server has forgotten the mission.
        """
        if passes(error.status.name):
            return None
        entry = self.books.find(self.id)
        if entry is None or entry.report is None:
            unknown = error.status is RPCStatusCode.NOT_FOUND
            told = UNKNOWN_HERE if unknown else error.message
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


async def refuse_unless_it_goes_on(
    handle: WorkflowHandle[Any, Any], name: str, ended: str
) -> str:
    """
    Find out why a mission or batch has no report: after a reset it goes on, in another
    run of its workflow. Returns its latest run.

    :param ended: the run that is known to have ended without a report, or "".
    :raises RefusedError: when it was ended by others, with the commands that help.
    """
    try:
        seen = await seen_of(handle)
        if seen.runs or (seen.run and seen.run != ended):
            return seen.run
        why = await why_ended(handle, seen)
    except RPCError:
        await asyncio.sleep(AGAIN_S)
        return ended
    raise RefusedError(interrupted(name, why))


def resolve(mission: Mission) -> Mission:
    """
    Put the crew's routes into *mission* and check it whole, before anything starts:
    the plan, and each task's input against the type that its agent takes.

    :raises BadInputError: in one sentence.
    """
    agents = load(settings().modules)
    resolved = mission.model_copy(update={"crew": crew(agents)})
    Plan(lean(resolved, settings().largest_bytes)[0])
    with writing_below(settings().workers_output):
        refuse_misfits(resolved.tasks, agents)
    return resolved


def lean(mission: Mission, largest: int) -> tuple[Mission, list[bytes]]:
    """
    Move the large inputs out of *mission*; returns too what the store must have of it
    before anybody gets it.

    :raises BadInputError: naming the task whose input cannot be kept.
    """
    moving = Moving(mission.id, largest)
    tasks = moving.moved(mission.tasks)
    return mission.model_copy(update={"tasks": tasks}), moving.bodies


def placed(resolved: Mission, store: Store) -> Mission:
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
    found = placed(await asyncio.to_thread(resolve, mission), store)
    return Opening(
        crew=found.crew,
        store=found.store,
        heartbeat_timeout_s=found.heartbeat_timeout_s,
        tagged=await tags_known(client),
    )


async def start(
    mission: Mission, *, client: Client | None = None, store: Store | None = None
) -> Started:
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
    resolved = resolve(mission)
    if client is None:
        address = await temporal_of(settings())
        if store is None:
            refuse_two_hosts(settings(), address)
        client = await connect(address)
    kept = store or open_store(settings())
    client = with_storage(client, lambda: kept)
    resolved, bodies = lean(placed(resolved, kept), kept.largest)
    await refuse_another(client, kept)
    books = Books(kept)
    if books.find(resolved.id) is None:
        refuse_too_many(kept)
    entry = await asyncio.to_thread(books.open, resolved)
    if bodies:
        await asyncio.to_thread(_keep, kept, resolved.id, bodies)
    handle = client.get_workflow_handle(resolved.id, result_type=Report)
    begun = await hand_over(client, resolved)
    if begun or entry is None or not entry.interruption:
        # The server has it: that the store is away now must not say otherwise.
        await kept.run(books.accept, resolved.id)
    return Started(resolved.id, handle, books)


def _keep(store: Store, mission: str, bodies: list[bytes]) -> None:
    with store.write() as connection:
        putting(mission, bodies)(connection)


def refuse_too_many(store: Store) -> None:
    """
    Take no more work than somebody can be waiting for.

    :raises TooManyError: past the configured number of open missions and batches.
    """
    most, now = settings().open_most, Books(store).under_way()
    if now >= most:
        raise TooManyError(
            f"{now} missions and batches are open, and OUTLAST_OPEN_MOST is {most}: "
            "wait for some to end, or cancel them"
        )


async def hand_over(client: Client, mission: Mission, again: bool = False) -> bool:
    """
    Give the mission to the server, again and again while it is away: the id makes
    that safe. False when the server has a workflow of that id which is not joined.

    :param again: begin anew where its workflow has ended; else join the one that runs.
    :raises UnavailableError: when no server takes it.
    """
    how = AGAIN if again else ONCE
    tags = await tags_of(client, mission)
    deadline = asyncio.get_running_loop().time() + HAND_OVER_LIMIT_S
    while True:
        try:
            await client.start_workflow(
                "Supervisor",
                mission,
                id=mission.id,
                task_queue=MISSIONS_QUEUE,
                **how,
                task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
                static_summary=title(mission.goal),
                search_attributes=tags,
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or not passes(error.status.name):
                raise UnavailableError(
                    f"Temporal at {where_is(client)} did not take the mission: "
                    f"{error.message}"
                ) from error
            await asyncio.sleep(AGAIN_S)
        else:
            return True


async def tags_of(client: Client, mission: Mission) -> TypedSearchAttributes | None:
    """
    Tag the mission for the Web UI, where the server knows our search attributes: a
    tag that it does not know would be refused.
    """
    if not await tags_known(client):
        return None
    return TypedSearchAttributes(
        [
            SearchAttributePair(STATUS, "running"),
            SearchAttributePair(TENANT, mission.tenant),
        ]
    )


async def tags_known(client: Client) -> bool:
    """
    Say whether the server has our search attributes.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await client.operator_service.list_search_attributes(request)
    except RPCError:
        return False  # not allowed to look, or away: a tag is not worth waiting for
    return {STATUS.name, TENANT.name} <= set(known.custom_attributes)
