"""
A small crew played by plain functions, on workers inside the test's own process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from outlast.agents.agent import Agent
from outlast.agents.agent_loading import resolve_routes
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.ids import MISSIONS_QUEUE, quarantine_queue, task_queue
from outlast.contracts.missions import Mission, Opening
from outlast.contracts.plan import Plan
from outlast.contracts.progress import MissionProgress
from outlast.contracts.reports import Report
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Task
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.slots import ExclusiveSlot
from outlast.fleet.workers import AgentWorkers, workflow_worker
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.settings import Settings
from outlast.store.database import Store
from outlast.temporal.payload_storage import with_storage

Play = Callable[..., Any]

BOUND_S = 30.0  # of every wait: a test that waits for ever is never red


def task(name: str, role: str, **more: Any) -> Task:
    return Task(id=name, role=role, **more)


async def ended(handle: WorkflowHandle[Any, Report]) -> Report:
    """
    Wait for the report of a mission, failed or not.
    """
    try:
        return await handle.result()
    except WorkflowFailureError as error:
        report = Report.of_failure(error.cause)
        if report is None:
            raise
        return report


@dataclass
class Crew:
    """
    Agents by role, hosted as in production, and the missions they work on.
    """

    client: Client
    store: Store
    agents: dict[str, Agent] = field(default_factory=dict)
    raw: dict[str, Play] = field(default_factory=dict)
    name: str = "m"  # of its missions: a server that lasts takes each id once
    lost: set[str] = field(default_factory=set)  # roles that no worker plays

    def __post_init__(self) -> None:
        if self.client is not None:  # a crew that nothing is sent to needs neither
            self.client = with_storage(self.client, lambda: self.store)

    def plays(self, role: str, play: Play, **more: Any) -> None:
        """
        Let *play* play *role*.
        """
        more.setdefault("policy", Policy(failures=2, crashes=2))
        self.agents[role] = Agent(role, 1, play, **more)

    def ends(
        self,
        role: str,
        end: Callable[[AttemptInput], Coroutine[Any, Any, ResultRef]],
        **more: Any,
    ) -> None:
        """
        Let the attempts of *role* end as *end* does, past every guard of ours.
        """

        async def never(given: dict[str, Any], run: Any) -> None: ...

        self.plays(role, never, **more)
        self.raw[role] = activity.defn(name=role)(end)

    def mission(self, *tasks: Task, **more: Any) -> Mission:
        return Mission(
            id=more.pop("id", self.name),
            goal="try",
            tasks=list(tasks),
            crew=resolve_routes(self.agents),
            store=more.pop("store", self.store.id if self.store else ""),
            **more,
        )

    async def fill(self, mission: Mission) -> Opening:
        """
        Find what a mission lacks that somebody else has started.
        """
        found = mission.model_copy(update={"crew": resolve_routes(self.agents)})
        Plan(found)
        return Opening(crew=found.crew, store=self.store.id)

    async def start(self, mission: Mission, **more: Any) -> WorkflowHandle[Any, Report]:
        books = MissionRecords(self.store)
        books.open(mission)
        handle: WorkflowHandle[Any, Report] = await self.client.start_workflow(
            "Supervisor",
            mission,
            id=mission.id,
            task_queue=MISSIONS_QUEUE,
            result_type=Report,
            **more,
        )
        books.accept(mission.id)
        return handle

    async def progress(self, handle: WorkflowHandle[Any, Report]) -> MissionProgress:
        return await handle.query("progress", result_type=MissionProgress)

    async def until(
        self,
        handle: WorkflowHandle[Any, Report],
        seen: Callable[[MissionProgress], object],
    ) -> MissionProgress:
        """
        Ask for the progress until *seen* is true of it.
        """
        async with asyncio.timeout(BOUND_S):
            while not seen(progress := await self.progress(handle)):
                pass
        return progress

    async def run(self, *tasks: Task, **more: Any) -> Report:
        """
        Run a mission of *tasks* to its report.
        """
        async with self.at_work():
            handle = await self.start(self.mission(*tasks, **more))
            return await ended(handle)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """
        Poll with one worker for missions and two for each role that is not lost.
        """
        missions = workflow_worker(self.client, self.store, self.fill)
        roles = [role for role in self.agents if role not in self.lost]
        async with missions, self.playing(*roles):
            yield

    @asynccontextmanager
    async def playing(self, *roles: str) -> AsyncIterator[None]:
        """
        Poll for *roles*.
        """
        chosen = Settings(slots=20, drain_grace_s=0)
        place = WorkerContext(Ledger(self.store), DEFAULT_TIMING.heartbeat_s)
        workers: list[Worker] = []
        turn = ExclusiveSlot()
        for role in roles:
            if role in self.raw:
                workers += self._raw_workers(role, turn)
                continue
            agent, made = self.agents[role], AgentWorkers(self.client, place, chosen)
            workers += [
                made.tasks(agent),
                *made.exclusive([agent], [quarantine_queue], turn),
            ]
        async with AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(worker)
            yield

    def _raw_workers(self, role: str, turn: ExclusiveSlot) -> list[Worker]:
        given: dict[str, Any] = {"activities": [self.raw[role]], "build_id": "test"}
        alone: dict[str, Any] = {
            "tuner": turn.tuner,
            "interceptors": [turn],
            "max_concurrent_activity_task_polls": 1,
        }
        return [
            Worker(self.client, task_queue=task_queue(role), **given),
            Worker(self.client, task_queue=quarantine_queue(role), **given, **alone),
        ]
