"""
Plain stand-ins of the unit tests: missions to make, a clock to turn, a stage to play
attempts on without a server.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue
from temporalio.service import RPCError, RPCStatusCode

from outlast.agents.agent import Agent, Migrate
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.missions import Mission, RoleSpec
from outlast.contracts.plan import Plan
from outlast.contracts.reports import MissionStatus, Outcome, Report, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Limits, Stored, Task
from outlast.execution.attempt import Attempt
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.claim import Claim
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import metadata

MISSION = "trial"
TENANT = "acme"
ROLE = "worker"


def task(name: str, *needs: str, role: str = ROLE, required: bool = True) -> Task:
    return Task(id=name, role=role, needs=list(needs), required=required)


def mission(*tasks: Task, **more: Any) -> Mission:
    """
    Make a mission whose crew plays ROLE only, unless told otherwise.
    """
    given = {"id": MISSION, "goal": "try it", "crew": {ROLE: RoleSpec(routes=[ROLE])}}
    return Mission(tasks=list(tasks) or [task("only")], **{**given, **more})


def ready_tasks(plan: Plan) -> list[Task]:
    """
    List the tasks that may start now, in the plan's order.
    """
    names = {name for _, name in plan._ready if plan._may_start(name)}
    return [plan.tasks[name] for name in plan.graph.in_order(names)]


def outcome(name: str, status: TaskStatus, required: bool = True) -> Outcome:
    return Outcome(id=name, role=ROLE, route=ROLE, status=status, required=required)


def report(of: str, status: MissionStatus, *outcomes: Outcome) -> Report:
    return Report(mission=of, status=status, tasks=list(outcomes))


def assignment(name: str = "only", round_: int = 1, of: str = MISSION) -> AttemptInput:
    return AttemptInput(mission=of, tenant=TENANT, task=task(name), round=round_)


def answer(text: str = "x", attempt: int = 1) -> ResultRef:
    return ResultRef(digest=text, attempt=attempt)


def told_in_one_sentence(error: BaseException) -> str:
    """
    Return the message of *error*, which must be one short line for a person.
    """
    text = str(error)
    assert text.strip()
    assert "\n" not in text
    assert len(text) < 500, text
    assert "sqlalche.me" not in text
    assert "pydantic" not in text
    return text


def contents(store: Store, *but: str) -> dict[str, list[tuple[Any, ...]]]:
    """
    Read all tables of *store*, save those named.
    """
    with store.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
            if table.name not in but
        }


def refused(store: Store) -> list[str]:
    """
    List what was refused, in order.
    """
    return [row[-2] for row in contents(store)["stale_writes"]]


@dataclass
class Clock:
    """
    A clock that stands still until it is turned.
    """

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Described:
    """
    What the server tells of a run.
    """

    run_id: str
    close_time: object = None


class RunClient:
    """
    A client whose server says which run of a workflow is the current one, or why not:
    one answer after the other, the last one for ever.
    """

    def __init__(self, *answers: Described | RPCStatusCode) -> None:
        self._answers = list(answers)

    def get_workflow_handle(self, workflow: str) -> "RunClient":
        return self

    async def describe(self, rpc_timeout: timedelta) -> Described:
        more = len(self._answers) > 1
        answer = self._answers.pop(0) if more else self._answers[0]
        if isinstance(answer, RPCStatusCode):
            raise RPCError("as told", answer, b"")
        return answer


@dataclass
class Stage:
    """
    Plays attempts of one task, each with the next fence, and keeps their beats.
    """

    ledger: Ledger
    threads: ThreadPoolExecutor
    fence: int = 0
    beats: list[Heartbeat] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    on_beat: Callable[[Heartbeat], None] = lambda _: None
    beat_s: float = 0.01
    leaks: int = 0
    mission: str = MISSION
    unleaks: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(
        self,
        play: Callable[..., Any],
        given: dict[str, JsonValue] | None = None,
        *,
        role: str = ROLE,
        version: int = 1,
        migrate: Migrate | None = None,
        round_: int = 1,
        needs: Sequence[str] = (),
        carried: Sequence[Checkpoint] = (),
        name: str = "only",
        store: str = "",
        approval: Approval | None = None,
        approved: Sequence[str] = (),
        skipped: Sequence[str] = (),
        stored: Stored | None = None,
    ) -> ResultRef:
        """
        Play one attempt of the task *name* with the agent function *play*.

        :param store: the id of the store that has the mission's books.
        """
        self.fence += 1
        asked = AttemptInput(
            mission=self.mission,
            tenant=TENANT,
            task=Task(
                id=name,
                role=role,
                input=given or {},
                needs=list(needs),
                approval=approval,
                stored=stored,
            ),
            store=store,
            round=round_,
            needs=list(needs),
            policy=self.policy,
            limits=self.limits,
            approved=list(approved),
            skipped=list(skipped),
        )
        agent = Agent(role, version, play, migrate=migrate)
        place = WorkerContext(self.ledger, self.beat_s)
        attempt = Attempt(agent, asked, self.fence, place, self._beat)
        attempt.in_flight = self
        return await attempt.run(list(carried))

    def result(self, name: str = "only") -> JsonValue:
        """
        Read what stands as the task's result.
        """
        found = self.ledger.result(self.mission, name)
        assert found is not None
        return found[1]

    def overtake(self, name: str = "only") -> Claim:
        """
        Claim the task for a later attempt.
        """
        self.fence += 1
        return self.ledger.claim(assignment(name, of=self.mission), ROLE, self.fence)

    def save(self, encoded: bytes) -> None: ...

    def finish(self) -> None: ...

    def leak(self) -> None:
        self.leaks += 1

    def leak_ended(self) -> None:
        self.leaks -= 1
        self.unleaks.set()

    def _beat(self, beat: Heartbeat) -> None:
        self.beats.append(beat)
        self.on_beat(beat)
