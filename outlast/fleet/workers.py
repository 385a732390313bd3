"""
What a worker process hosts: the Temporal workers of each kind, with their queues.

Agents never share a process with workflows, and each role has three queues: its tasks,
its leases, and those of its tasks that are suspected of killing their process. Agents
that asked for isolation="process" are played in processes of their own kind only.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import product
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
from outlast.execution.handback import StoreInterceptor
from outlast.execution.in_flight import InFlightRegistry
from outlast.execution.record_activities import FillIn, RecordActivities
from outlast.execution.temporal_activities import lease_activity, task_activity
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.current_build import warn_queue_limit
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.slots import ExclusiveSlot, LeaseSlots
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
    settings: Settings,
    in_flight: InFlightRegistry,
) -> WorkerSet:
    """
    Make the Temporal workers of a process of *kind*.

    :param in_flight: hears what each attempt does.
    """
    if kind is ProcessKind.WORKFLOWS:
        fill = partial(fill_in, client, store)
        return WorkerSet([workflow_worker(client, store, fill, settings.build)])
    permits = run_permits(ensure_home(settings))
    ledger = Ledger(store, fencing=settings.fencing, permits=permits)
    await store.run(ledger.warm_up)  # a server may hold it up, and the loop must turn
    context = WorkerContext(
        ledger=ledger, in_flight=in_flight, drain_s=settings.drain_grace_s
    )
    return AgentWorkers(client, context, settings).of_kind(kind, agents)


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


@dataclass(frozen=True)
class AgentWorkers:
    """
    Makes the workers of one process that play agents.
    """

    client: Client
    context: WorkerContext
    settings: Settings

    def of_kind(self, kind: ProcessKind, agents: dict[str, Agent]) -> WorkerSet:
        """
        Make all workers of a process of *kind*.
        """
        shared = [each for each in agents.values() if not each.isolated]
        isolated = [each for each in agents.values() if each.isolated]
        if kind is ProcessKind.ISOLATED:
            slot = ExclusiveSlot(once=True)
            queues = (task_queue, lease_queue, quarantine_queue)
            workers = self.exclusive(isolated, queues, slot)
            return WorkerSet(
                workers, len(isolated), used=slot.used, closing=self.context.closing
            )
        if kind is ProcessKind.QUARANTINE:
            # One process of a fleet is enough.
            warn_queue_limit(self.settings.build, len(agents))
            slot, never = ExclusiveSlot(), ExclusiveSlot(places=0)
            workers = self.exclusive(shared, [quarantine_queue], slot)
            # So that the server lists them, also while the processes that play these
            # agents come and go: else their roles would be taken for unserved.
            workers += self.exclusive(isolated, [task_queue], never)
        else:
            workers = [worker for each in shared for worker in self.shared(each)]
        return WorkerSet(
            workers,
            len(isolated),
            polls=bool(shared),
            closing=self.context.closing,
        )

    def shared(self, agent: Agent) -> list[Worker]:
        """
        Make the workers that play *agent* beside other attempts.
        """
        if not agent.slots:
            return [self.tasks(agent), self.leases(agent)]
        # A lease takes one place as a task does, and plays one item after another.
        slot = ExclusiveSlot(places=min(agent.slots, self.settings.slots))
        return self.exclusive([agent], (task_queue, lease_queue), slot)

    def tasks(self, agent: Agent) -> Worker:
        return Worker(
            self.client,
            task_queue=task_queue(agent.role),
            activities=self._activities(agent),
            max_concurrent_activities=self.settings.slots,
            **self._polling(),
        )

    def leases(self, agent: Agent) -> Worker:
        """
        Make the worker that takes leases for *agent*: apart from its tasks, so that a
        huge batch is in no mission's way.
        """
        slots = LeaseSlots(self.settings.lease_slots)
        return Worker(
            self.client,
            task_queue=lease_queue(agent.role),
            activities=[lease_activity(agent, self.context, slots.set_waiting)],
            tuner=slots.tuner,
            **self._polling(),
        )

    def exclusive(
        self,
        agents: Iterable[Agent],
        queues: Iterable[Callable[[str], str]],
        slot: ExclusiveSlot,
    ) -> list[Worker]:
        """
        Make workers that play what comes to these queues of *agents* while *slot* has
        room.
        """
        return [
            Worker(
                self.client,
                task_queue=queue_of(agent.role),
                activities=self._activities(agent),
                tuner=slot.tuner,
                interceptors=[slot],
                **self._polling(),
            )
            for agent, queue_of in product(agents, queues)
        ]

    def _activities(self, agent: Agent) -> list[Callable[..., Any]]:
        # Leases too: a task's own queue holds those that were dispatched before.
        return [
            task_activity(agent, self.context),
            lease_activity(agent, self.context),
        ]

    def _polling(self) -> dict[str, Any]:
        return {
            # A poll that dies with its process can swallow a task: hold only one.
            "max_concurrent_activity_task_polls": 1,
            "graceful_shutdown_timeout": timedelta(seconds=self.settings.drain_grace_s),
            **_common(self.settings.build),
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
