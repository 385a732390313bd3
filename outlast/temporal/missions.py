"""
Prepare a mission: its routes, inputs and store; and give it to the server.
"""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from outlast.agents.agent_check import require_fitting_inputs
from outlast.agents.agent_loading import load_agents, resolve_routes
from outlast.contracts.errors import TooManyError
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.inputs import InputStorage
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.plan import Plan
from outlast.contracts.text import title
from outlast.contracts.timing import DEFAULT_TIMING, timing_of
from outlast.ledger.missions import MissionRecords
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.output_roots import writing_within
from outlast.temporal.workflow_calls import start_until_taken

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastStatus")
TENANT_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastTenant")

START_ONCE: dict[str, Any] = {
    "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
}
START_AGAIN: dict[str, Any] = {"id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE}


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
    Give the mission to the server. False when the server has a workflow of that id
    which is not joined.

    :param restart: begin anew where its workflow has ended; else join the one that
        runs.
    :raises UnavailableError: when no server takes it.
    """
    how = START_AGAIN if restart else START_ONCE
    tags = await search_attributes(client, mission)

    def start() -> Awaitable[object]:
        return client.start_workflow(
            "Supervisor",
            mission,
            id=mission.id,
            task_queue=MISSIONS_QUEUE,
            **how,
            task_timeout=timedelta(seconds=DEFAULT_TIMING.workflow_task_s),
            static_summary=title(mission.goal),
            search_attributes=tags,
        )

    try:
        await start_until_taken(client, "mission", start)
    except WorkflowAlreadyStartedError:
        return False
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
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await client.operator_service.list_search_attributes(request)
    except RPCError:
        return False  # not allowed to look, or away: a tag is not worth waiting for
    return {STATUS_ATTRIBUTE.name, TENANT_ATTRIBUTE.name} <= set(
        known.custom_attributes
    )
