"""
What a worker process hosts: the Temporal workers of each kind, with their queues.

Agents never share a process with workflows, and each role has three queues: its tasks,
its leases, and those of its tasks that are suspected of killing their process. Agents
that asked for isolation="process" are played in processes of their own kind only.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
)

from outlast.agents.registry import Agent
from outlast.contracts.ids import (
    MISSIONS_QUEUE,
    alone_queue_of,
    lease_queue_of,
    queue_of,
)
from outlast.contracts.policies import SHIPPED
from outlast.dev.locks import home_of
from outlast.execution.attempt import Place
from outlast.execution.bookkeeping_activities import Fill, books_of
from outlast.execution.child_ends import ends_in
from outlast.execution.in_flight import Hands
from outlast.execution.lease_activities import keeping, lend
from outlast.execution.temporal_activities import host
from outlast.fleet.current_build import warn_of_crowding
from outlast.fleet.exclusive_slot import Turn
from outlast.fleet.lease_slots import Room
from outlast.fleet.process_kinds import Kind
from outlast.fleet.store_interceptor import Patience
from outlast.ledger.ledger import Ledger
from outlast.ledger.run_permits import permits_of
from outlast.settings import Settings
from outlast.store.database import Store
from outlast.temporal.deployments import DEPLOYMENT
from outlast.temporal.missions import fill_in
from outlast.workflows.pool import PoolWorkflow
from outlast.workflows.supervisor import SupervisorWorkflow

# Without a name of the build each Worker hashes every loaded module: 0.6 s.
BUILD_ID = "outlast"


@dataclass(frozen=True)
class Hosted:
    """
    :param isolated: roles of this fleet whose attempts have a process to themselves.
    :param polls: whether any of the workers polls.
    :param played: set once the process has played the one attempt that it may.
    """

    workers: list[Worker]
    isolated: int = 0
    polls: bool = True
    played: asyncio.Event | None = None


async def hosted(
    kind: Kind,
    client: Client,
    store: Store,
    agents: dict[str, Agent],
    chosen: Settings,
    hands: Hands,
) -> Hosted:
    """
    Make the Temporal workers of a process of *kind*.

    :param hands: hears what each attempt has in hand.
    """
    if kind is Kind.WORKFLOWS:
        fill = partial(fill_in, client, store)
        return Hosted([missions_worker(client, store, fill, chosen.build)])
    permits = permits_of(home_of(chosen))
    ledger = Ledger(store, fencing=chosen.fencing, permits=permits)
    await store.run(ledger.warm_up)  # a server may hold it up, and the loop must turn
    place = Place(
        ledger=ledger,
        hands=hands,
        drain_s=chosen.drain_s,
    )
    shared = [each for each in agents.values() if not each.isolated]
    isolated = [each for each in agents.values() if each.isolated]
    given = (client, place)
    if kind is Kind.ISOLATED:
        turn = Turn(once=True)
        made = [isolated_workers(*given, each, chosen, turn) for each in isolated]
        workers = list(chain.from_iterable(made))
        return Hosted(workers, len(isolated), played=turn.played)
    if kind is Kind.ALONE:
        turn = Turn()
        warn_of_crowding(chosen.build, len(agents))  # one process of a fleet is enough
        workers = [alone_worker(*given, each, chosen, turn) for each in shared]
        workers += [sign_worker(*given, each, chosen) for each in isolated]
    else:
        made = [shared_workers(*given, each, chosen) for each in shared]
        workers = list(chain.from_iterable(made))
    return Hosted(workers, len(isolated), polls=bool(shared))


def missions_worker(
    client: Client, store: Store, fill: Fill, build: str = ""
) -> Worker:
    """
    Make the worker that runs supervisor workflows and keeps their books.

    :param fill: finds what a mission lacks that Temporal alone has started.
    """
    return Worker(
        client,
        task_queue=MISSIONS_QUEUE,
        workflows=[SupervisorWorkflow, PoolWorkflow],
        activities=[*books_of(store, fill), *keeping(store), *ends_in(store)],
        # Determinism is held by tests: see docs/decisions/0013.
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=[Patience(store)],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=SHIPPED.sticky_s),
        **_common(build),
    )


def shared_workers(
    client: Client, place: Place, agent: Agent, chosen: Settings
) -> list[Worker]:
    """
    Make the workers that play *agent* beside other attempts.
    """
    if not agent.slots:
        return [
            agent_worker(client, place, agent, chosen),
            pool_worker(client, place, agent, chosen),
        ]
    # A lease takes one place as a task does, and plays one item after another.
    turn = Turn(places=min(agent.slots, chosen.slots))
    return [
        turn_worker(client, place, agent, chosen, turn, name(agent.role))
        for name in (queue_of, lease_queue_of)
    ]


def isolated_workers(
    client: Client, place: Place, agent: Agent, chosen: Settings, turn: Turn
) -> list[Worker]:
    """
    Make the workers of a process that plays one attempt, when it is *agent*'s *turn*.
    """
    return [
        turn_worker(client, place, agent, chosen, turn, name(agent.role))
        for name in (queue_of, lease_queue_of, alone_queue_of)
    ]


def sign_worker(client: Client, place: Place, agent: Agent, chosen: Settings) -> Worker:
    """
    Make the worker that never polls: the server lists it, also while the processes
    that play *agent* come and go, so that nobody takes its role for unserved.
    """
    never = Turn(places=0)
    return turn_worker(client, place, agent, chosen, never, queue_of(agent.role))


def agent_worker(
    client: Client, place: Place, agent: Agent, chosen: Settings
) -> Worker:
    """
    Make the worker that plays *agent*, on its role's own queue.
    """
    return Worker(
        client,
        task_queue=queue_of(agent.role),
        # Leases too: one that was lent before waits here.
        activities=[host(agent, place), lend(agent, place)],
        max_concurrent_activities=chosen.slots,
        **_polling(chosen),
    )


def pool_worker(client: Client, place: Place, agent: Agent, chosen: Settings) -> Worker:
    """
    Make the worker that takes leases for *agent*: apart from its tasks, so that a
    huge batch is in no mission's way.
    """
    room = Room(chosen.leases)
    return Worker(
        client,
        task_queue=lease_queue_of(agent.role),
        activities=[lend(agent, place, room.tell)],
        tuner=room.tuner,
        **_polling(chosen),
    )


def alone_worker(
    client: Client, place: Place, agent: Agent, chosen: Settings, turn: Turn
) -> Worker:
    """
    Make the worker that plays *agent* for suspects, when it is its *turn*.
    """
    queue = alone_queue_of(agent.role)
    return turn_worker(client, place, agent, chosen, turn, queue)


def turn_worker(
    client: Client,
    place: Place,
    agent: Agent,
    chosen: Settings,
    turn: Turn,
    queue: str,
) -> Worker:
    """
    Make the worker that plays what comes to *queue*, as long as *turn* has a place.
    """
    return Worker(
        client,
        task_queue=queue,
        activities=[host(agent, place), lend(agent, place)],
        tuner=turn.tuner,
        interceptors=[turn],
        **_polling(chosen),
    )


def _polling(chosen: Settings) -> dict[str, Any]:
    return {
        # A poll that dies with its process can swallow a task: hold only one.
        "max_concurrent_activity_task_polls": 1,
        "graceful_shutdown_timeout": timedelta(seconds=chosen.drain_s),
        **_common(chosen.build),
    }


def _common(build: str) -> dict[str, Any]:
    throttle = timedelta(seconds=SHIPPED.beat_s / 2)
    return {
        **_named(build),
        "max_heartbeat_throttle_interval": throttle,
        "default_heartbeat_throttle_interval": throttle,
    }


def _named(build: str) -> dict[str, Any]:
    """
    Name the worker's build; under one of the operator's, whatever begins stays.
    """
    if not build:
        return {"build_id": BUILD_ID}
    version = WorkerDeploymentVersion(DEPLOYMENT, build)
    return {
        "deployment_config": WorkerDeploymentConfig(
            version=version,
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )
    }
