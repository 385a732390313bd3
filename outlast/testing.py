"""
Try an agent without a server: run it, kill it after a save, run it again.

    ended = await outlast.testing.run(refund, {"id": "17", "lines": []}, kill_after=2)
    assert ended.attempts == 2 and ended.result == "refunded"
    assert ended.findings == []

Mistakes that show only when something fails are told as warnings too: a signal of the
context that was swallowed, progress that would not come back, a blocked event loop, a
call that was never awaited.
"""

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, JsonValue

from outlast.agents.agent import Agent
from outlast.agents.agent_check import check_agents, require_fitting_inputs
from outlast.agents.worker_start import open_all
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Limits, Task
from outlast.execution.attempt import Attempt
from outlast.execution.findings import AgentFindings
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.trial_ledger import PointKind, TrialLedger, TrialPoint, saves_of
from outlast.store.database import Store

TEST_MISSION = "rehearsal"


@dataclass
class AgentRun:
    """
    How a trial ended: the result, and what it took.

    :param result: as JSON, as a task that needs it would get it.
    :param attempts: 2 where the first one was killed.
    :param saves: over all attempts.
    :param effects: keys of those that happened.
    :param degraded: what the result lacks, and why.
    :param rejected: why the agent wants another task redone, or None.
    :param findings: mistakes of the agent that show only when something fails, a
        sentence each; [] for none.
    """

    result: JsonValue
    attempts: int
    saves: int
    effects: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    rejected: str | None = None
    findings: list[str] = field(default_factory=list)


class AgentWarning(UserWarning):
    """
    A mistake of the agent that shows only when something fails.
    """


class KilledAgent(BaseException):
    """
    Stands for SIGKILL: nothing in the agent can catch it by accident.
    """


async def run(  # noqa: PLR0913 - all but two are options
    agent: Agent,
    task: BaseModel | dict[str, JsonValue],
    kill_after: int | None = None,
    *,
    needs: dict[str, JsonValue] | None = None,
    approval: Approval | None = None,
    limits: Limits | None = None,
    store: Store | None = None,
) -> AgentRun:
    """
    Run *agent* on one input, without a server, and return how it ended.

    Checkpoints, results and effects go through the same ledger as in production, in
    a store that is thrown away. A kill is an exception here; `outlast crashtest` sends
    real ones.

    :param agent: what `@agent` has made of the function.
    :param task: its input.
    :param kill_after: end the first attempt right after this many saves, and let a
        second one continue.
    :param needs: results of needed tasks, by task id.
    :param approval: before effects: the attempt must end by ApprovalNeededError.
    :param limits: of the mission; past them it must end by BudgetExceededError.
    :param store: the agent's `ctx.store`, for tables of its own that several runs use.
    :raises BadInputError: when no mission could start with such a task or agent.
    :raises ValueError: when the agent ended before it saved so often: nothing was
        tried then.
    """
    check_agents([agent])
    given = task.model_dump(mode="json") if isinstance(task, BaseModel) else task
    needed, role = list(needs or {}), agent.role
    asked = Task(id=role, role=role, input=given, needs=needed, approval=approval)
    require_fitting_inputs([asked], {role: agent})
    assignment = AttemptInput(
        mission=TEST_MISSION,
        tenant="default",
        task=asked,
        needs=needed,
        policy=agent.policy,
        limits=limits or Limits(),
    )
    findings = AgentFindings(agent)
    with tempfile.TemporaryDirectory() as folder:
        ledger_store = Store(Path(folder) / "store.db")
        try:
            trial = _AgentTrial(ledger_store, findings, assignment, kill_after, store)
            return await trial.run(needs or {})
        except BaseException as error:
            for each in findings.sentences:
                error.add_note(each)
            raise
        finally:
            ledger_store.close()
            for each in findings.sentences:
                warnings.warn(each, AgentWarning, stacklevel=2)


class _AgentTrial:
    def __init__(
        self,
        store: Store,
        findings: AgentFindings,
        assignment: AttemptInput,
        kill_after: int | None,
        agent_store: Store | None,
    ) -> None:
        self._ledger = TrialLedger(store, self._reached, agent_store)
        self._findings = findings
        self._assignment = assignment
        self._kill_after = kill_after

    async def run(self, needs: dict[str, JsonValue]) -> AgentRun:
        for need, result in needs.items():
            self._give(need, result)
        attempts = 1
        try:
            answer = await self._attempt(attempts)
            if self._kill_after is not None:
                raise ValueError(f"it ended before its save {self._kill_after}")
        except KilledAgent:
            self._kill_after = None
            attempts += 1
            answer = await self._attempt(attempts)
        found = self._ledger.result(TEST_MISSION, self._findings.agent.role)
        return AgentRun(
            result=found[1] if found else None,
            attempts=attempts,
            saves=saves_of(self._ledger.points),
            effects=self._ledger.effects,
            degraded=answer.degraded,
            rejected=answer.redo_request.reason if answer.redo_request else None,
            findings=self._findings.sentences,
        )

    async def _attempt(self, number: int) -> ResultRef:
        await open_all()  # each attempt stands for a process of its own
        worker, agent = WorkerContext(self._ledger), self._findings.agent
        async with self._findings:
            return await Attempt(agent, self._assignment, number, worker).run([])

    def _reached(self, points: list[TrialPoint]) -> None:
        saved = points[-1].when is PointKind.SAVED
        if saved and saves_of(points) == self._kill_after:
            raise KilledAgent

    def _give(self, need: str, result: JsonValue) -> None:
        """
        Put the result of a needed task into the ledger.
        """
        task = Task(id=need, role=need)
        before = AttemptInput(mission=TEST_MISSION, tenant="default", task=task)
        claim = self._ledger.claim(before, need, 1)
        self._ledger.record(claim, ResultRef(digest="given", attempt=1), result)
