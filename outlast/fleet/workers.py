"""
What a worker process hosts: the Temporal workers of each kind, with their queues.

Agents never share a process with workflows, and each role has three queues: its tasks,
its leases, and those of its tasks that are suspected of killing their process. Agents
that asked for isolation="process" are played in processes of their own kind only.
"""

import asyncio
from dataclasses import dataclass, field
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

from outlast.agents.agent import Agent
from outlast.contracts.ids import (
    MISSIONS_QUEUE,
    lease_queue,
    quarantine_queue,
    task_queue,
)
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.dev.locks import ensure_home
from outlast.execution.attempt import WorkerContext
from outlast.execution.in_flight import InFlightRegistry
from outlast.execution.record_activities import FillIn, RecordActivities
from outlast.execution.temporal_activities import lease_activity, task_activity
from outlast.fleet.current_build import warn_queue_limit
from outlast.fleet.exclusive_slot import ExclusiveSlot
from outlast.fleet.lease_slots import LeaseSlotSupplier
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.store_interceptor import StoreInterceptor
from outlast.ledger.ledger import Ledger
from outlast.ledger.run_permits import run_permits
from outlast.settings import Settings
from outlast.store.database import Store
from outlast.temporal.deployments import DEPLOYMENT
from outlast.temporal.missions import fill_in
from outlast.workflows.pool import PoolWorkflow
from outlast.workflows.supervisor import SupervisorWorkflow

# Without a name of the build each Worker hashes every loaded module: 0.6 s.
DEFAULT_BUILD_ID = "outlast"


@dataclass(frozen=True)
class WorkerSet:
    """
    :param isolated: roles of this fleet whose attempts have a process to themselves.
    :param polls: whether any of the workers polls.
    :param used: set once the process has played the one attempt that it may.
    :param closing: writes of ends that nobody waits for.
    """

    workers: list[Worker]
    isolated: int = 0
    polls: bool = True
    used: asyncio.Event | None = None
    closing: set[asyncio.Future[None]] = field(default_factory=set)


async def build_workers(
    kind: ProcessKind,
    client: Client,
    store: Store,
    agents: dict[str, Agent],
    chosen: Settings,
    hands: InFlightRegistry,
) -> WorkerSet:
    """
    Make the Temporal workers of a process of *kind*.

    :param hands: hears what each attempt has in hand.
    """
    if kind is ProcessKind.WORKFLOWS:
        fill = partial(fill_in, client, store)
        return WorkerSet([workflow_worker(client, store, fill, chosen.build)])
    permits = run_permits(ensure_home(chosen))
    ledger = Ledger(store, fencing=chosen.fencing, permits=permits)
    await store.run(ledger.warm_up)  # a server may hold it up, and the loop must turn
    context = WorkerContext(
        ledger=ledger,
        in_flight=hands,
        drain_s=chosen.drain_grace_s,
    )
    shared = [each for each in agents.values() if not each.isolated]
    isolated = [each for each in agents.values() if each.isolated]
    given, ends = (client, context), context.closing
    if kind is ProcessKind.ISOLATED:
        turn = ExclusiveSlot(once=True)
        made = [isolated_workers(*given, each, chosen, turn) for each in isolated]
        workers = list(chain.from_iterable(made))
        return WorkerSet(workers, len(isolated), used=turn.used, closing=ends)
    if kind is ProcessKind.QUARANTINE:
        turn = ExclusiveSlot()
        warn_queue_limit(chosen.build, len(agents))  # one process of a fleet is enough
        workers = [quarantine_worker(*given, each, chosen, turn) for each in shared]
        workers += [presence_worker(*given, each, chosen) for each in isolated]
    else:
        made = [shared_workers(*given, each, chosen) for each in shared]
        workers = list(chain.from_iterable(made))
    return WorkerSet(workers, len(isolated), polls=bool(shared), closing=ends)


def workflow_worker(
    client: Client, store: Store, fill: FillIn, build: str = ""
) -> Worker:
    """
    Make the worker that runs supervisor workflows and keeps their books.

    :param fill: finds what a mission lacks that Temporal alone has started.
    """
    return Worker(
        client,
        task_queue=MISSIONS_QUEUE,
        workflows=[SupervisorWorkflow, PoolWorkflow],
        activities=RecordActivities(store, fill).all,
        # Determinism is held by tests: see docs/decisions/0013.
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=[StoreInterceptor(store)],
        sticky_queue_schedule_to_start_timeout=timedelta(
            seconds=DEFAULT_TIMING.sticky_s
        ),
        **_common(build),
    )


def shared_workers(
    client: Client, place: WorkerContext, agent: Agent, chosen: Settings
) -> list[Worker]:
    """
    Make the workers that play *agent* beside other attempts.
    """
    if not agent.slots:
        return [
            agent_worker(client, place, agent, chosen),
            lease_worker(client, place, agent, chosen),
        ]
    # A lease takes one place as a task does, and plays one item after another.
    turn = ExclusiveSlot(places=min(agent.slots, chosen.slots))
    return [
        exclusive_worker(client, place, agent, chosen, turn, name(agent.role))
        for name in (task_queue, lease_queue)
    ]


def isolated_workers(
    client: Client,
    place: WorkerContext,
    agent: Agent,
    chosen: Settings,
    turn: ExclusiveSlot,
) -> list[Worker]:
    """
    Make the workers of a process that plays one attempt, when it is *agent*'s *turn*.
    """
    return [
        exclusive_worker(client, place, agent, chosen, turn, name(agent.role))
        for name in (task_queue, lease_queue, quarantine_queue)
    ]


def presence_worker(
    client: Client, place: WorkerContext, agent: Agent, chosen: Settings
) -> Worker:
    """
    Make the worker that never polls: the server lists it, also while the processes
    that play *agent* come and go, so that nobody takes its role for unserved.
    """
    never = ExclusiveSlot(places=0)
    return exclusive_worker(client, place, agent, chosen, never, task_queue(agent.role))


def agent_worker(
    client: Client, place: WorkerContext, agent: Agent, chosen: Settings
) -> Worker:
    """
    Make the worker that plays *agent*, on its role's own queue.
    """
    return Worker(
        client,
        task_queue=task_queue(agent.role),
        # Leases too: one that was lent before waits here.
        activities=[task_activity(agent, place), lease_activity(agent, place)],
        max_concurrent_activities=chosen.slots,
        **_polling(chosen),
    )


def lease_worker(
    client: Client, place: WorkerContext, agent: Agent, chosen: Settings
) -> Worker:
    """
    Make the worker that takes leases for *agent*: apart from its tasks, so that a
    huge batch is in no mission's way.
    """
    room = LeaseSlotSupplier(chosen.lease_slots)
    return Worker(
        client,
        task_queue=lease_queue(agent.role),
        activities=[lease_activity(agent, place, room.set_waiting)],
        tuner=room.tuner,
        **_polling(chosen),
    )


def quarantine_worker(
    client: Client,
    place: WorkerContext,
    agent: Agent,
    chosen: Settings,
    turn: ExclusiveSlot,
) -> Worker:
    """
    Make the worker that plays *agent* for suspects, when it is its *turn*.
    """
    queue = quarantine_queue(agent.role)
    return exclusive_worker(client, place, agent, chosen, turn, queue)


def exclusive_worker(
    client: Client,
    place: WorkerContext,
    agent: Agent,
    chosen: Settings,
    slot: ExclusiveSlot,
    queue: str,
) -> Worker:
    """
    Make the worker that plays what comes to *queue*, as long as *slot* has a place.
    """
    return Worker(
        client,
        task_queue=queue,
        activities=[task_activity(agent, place), lease_activity(agent, place)],
        tuner=slot.tuner,
        interceptors=[slot],
        **_polling(chosen),
    )


def _polling(chosen: Settings) -> dict[str, Any]:
    return {
        # A poll that dies with its process can swallow a task: hold only one.
        "max_concurrent_activity_task_polls": 1,
        "graceful_shutdown_timeout": timedelta(seconds=chosen.drain_grace_s),
        **_common(chosen.build),
    }


def _common(build: str) -> dict[str, Any]:
    throttle = timedelta(seconds=DEFAULT_TIMING.heartbeat_s / 2)
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
        return {"build_id": DEFAULT_BUILD_ID}
    version = WorkerDeploymentVersion(DEPLOYMENT, build)
    return {
        "deployment_config": WorkerDeploymentConfig(
            version=version,
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )
    }
