"""
What a worker process hosts: the Temporal workers of each kind, with their queues.

Agents never share a process with workflows, and each role has three queues: its tasks,
its leases, and those of its tasks that are suspected of killing their process.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
)

from activities.leases import keeping, lend
from activities.registrar import books_of
from outlast.attempt.agent import Agent
from outlast.attempt.guard import Place
from outlast.attempt.hands import Hands
from outlast.attempt.host import host
from outlast.attempt.ledger import Ledger
from outlast.attempt.permit import permits_of
from outlast.contracts.names import MISSIONS_QUEUE, alone_queue_of, queue_of
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import lease_queue_of
from outlast.fleet.alone import Turn
from outlast.fleet.kinds import Kind
from outlast.fleet.room import Room
from outlast.fleet.standing import warn_of_crowding
from outlast.runtime.builds import DEPLOYMENT
from outlast.runtime.locks import home_of
from outlast.runtime.settings import Settings
from outlast.store.database import Store
from workflows.pool import PoolWorkflow
from workflows.supervisor import SupervisorWorkflow

# Without a name of the build each Worker hashes every loaded module: 0.6 s.
BUILD_ID = "outlast"


async def hosted(
    kind: Kind,
    client: Client,
    store: Store,
    agents: dict[str, Agent],
    chosen: Settings,
    hands: Hands,
) -> list[Worker]:
    """
    Make the Temporal workers of a process of *kind*.

    :param hands: hears what each attempt has in hand.
    """
    if kind is Kind.WORKFLOWS:
        return [missions_worker(client, store, chosen.build)]
    permits = permits_of(home_of(chosen))
    ledger = Ledger(store, fencing=chosen.fencing, permits=permits)
    await store.run(ledger.warm_up)  # a server may hold it up, and the loop must turn
    place = Place(
        ledger=ledger,
        threads=_threads(chosen.slots, len(agents)),
        hands=hands,
        drain_s=chosen.drain_s,
    )
    if kind is Kind.ALONE:
        turn = Turn()
        warn_of_crowding(chosen.build, len(agents))  # one process of a fleet is enough
        return [
            alone_worker(client, place, agent, chosen, turn)
            for agent in agents.values()
        ]
    return [
        make(client, place, agent, chosen)
        for agent in agents.values()
        for make in (agent_worker, pool_worker)
    ]


def _threads(slots: int, roles: int) -> ThreadPoolExecutor:
    """
    Make room for every attempt of all roles at once, and for as many threads again
    that an agent has left hanging; a thread is made when it is needed.
    """
    return ThreadPoolExecutor(2 * slots * (roles + 1), thread_name_prefix="agent")


def missions_worker(client: Client, store: Store, build: str = "") -> Worker:
    """
    Make the worker that runs supervisor workflows and closes their books.
    """
    return Worker(
        client,
        task_queue=MISSIONS_QUEUE,
        workflows=[SupervisorWorkflow, PoolWorkflow],
        activities=[*books_of(store), *keeping(store)],
        # Determinism is held by tests: see docs/decisions/0013.
        workflow_runner=UnsandboxedWorkflowRunner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=SHIPPED.sticky_s),
        **_common(build),
    )


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
        # A poll that dies with its process can swallow a task: hold only one.
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(chosen.build),
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
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(chosen.build),
    )


def alone_worker(
    client: Client, place: Place, agent: Agent, chosen: Settings, turn: Turn
) -> Worker:
    """
    Make the worker that plays *agent* for suspects, when it is its *turn*.
    """
    return Worker(
        client,
        task_queue=alone_queue_of(agent.role),
        activities=[host(agent, place), lend(agent, place)],
        tuner=turn.tuner,
        interceptors=[turn],
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(chosen.build),
    )


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
