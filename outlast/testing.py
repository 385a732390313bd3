"""
Try an agent without a server: run it, kill it after a save, run it again.

    ended = await outlast.testing.run(refund, {"id": "17", "lines": []}, kill_after=2)
    assert ended.attempts == 2 and ended.result == "refunded"
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from outlast.attempt.agent import Agent
from outlast.attempt.effect_identity import Proposal
from outlast.attempt.fence import Claim
from outlast.attempt.guard import Attempt, Place
from outlast.attempt.ledger import Ledger, Saved
from outlast.attempt.worker_start import open_all
from outlast.contracts.models import Answer, Assignment, Task
from outlast.store.database import Store

MISSION = "rehearsal"


@dataclass
class Ended:
    """
    How a trial ended: the result, and what it took.
    """

    result: JsonValue
    attempts: int
    saves: int
    effects: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    rejected: str | None = None  # why another task is to be done again


class Killed(BaseException):
    """
    Stands for SIGKILL: nothing in the agent can catch it by accident.
    """


async def run(
    agent: Agent,
    task: BaseModel | dict[str, JsonValue],
    kill_after: int | None = None,
    *,
    needs: dict[str, JsonValue] | None = None,
) -> Ended:
    """
    Run *agent* on the input *task*; with *kill_after*, end its first attempt right
    after that many saves and let a second one go on.

    Checkpoints, results and effects go through the same ledger as in production, in
    a store that is thrown away. A kill is an exception here; `worker.py` shows what a
    real one does.

    :raises ValueError: when the agent ended before it saved so often: nothing was
        tried then.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        store = Store(Path(folder) / "store.db")
        try:
            trial = _Trial(store, threads, agent, task, needs or {})
            return await trial.run(kill_after)
        finally:
            store.close()


class _Trial:
    def __init__(
        self,
        store: Store,
        threads: ThreadPoolExecutor,
        agent: Agent,
        task: BaseModel | dict[str, JsonValue],
        needs: dict[str, JsonValue],
    ) -> None:
        given = task.model_dump(mode="json") if isinstance(task, BaseModel) else task
        self._ledger = _KillingLedger(store)
        self._place = Place(self._ledger, threads)
        self._agent = agent
        self._assignment = Assignment(
            mission=MISSION,
            tenant="default",
            task=Task(id=agent.role, role=agent.role, input=given, needs=list(needs)),
            needs=list(needs),
            policy=agent.policy,
        )
        self._needs = needs

    async def run(self, kill_after: int | None) -> Ended:
        self._ledger.kill_after = kill_after
        for need, result in self._needs.items():
            self._ledger.give(need, result)
        attempts = 1
        try:
            answer = await self._attempt(attempts)
            if kill_after is not None:
                raise ValueError(f"it ended before its save {kill_after}")
        except Killed:
            self._ledger.kill_after = None
            attempts += 1
            answer = await self._attempt(attempts)
        found = self._ledger.result(MISSION, self._agent.role)
        return Ended(
            result=found[1] if found else None,
            attempts=attempts,
            saves=self._ledger.saves,
            effects=self._ledger.effects,
            degraded=answer.degraded,
            rejected=answer.redo.reason if answer.redo else None,
        )

    async def _attempt(self, number: int) -> Answer:
        await open_all()  # each attempt stands for a process of its own
        attempt = Attempt(self._agent, self._assignment, number, self._place)
        return await attempt.run([])


class _KillingLedger(Ledger):
    """
    A ledger that kills its caller after a save, and remembers what was applied.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.saves = 0
        self.effects: list[str] = []
        self.kill_after: int | None = None

    def save(self, *args: Any) -> Saved:
        saved = super().save(*args)
        self.saves += 1
        if self.saves == self.kill_after:
            raise Killed
        return saved

    def applied(
        self, claim: Claim, proposal: Proposal, number: int, result: JsonValue
    ) -> None:
        super().applied(claim, proposal, number, result)
        self.effects.append(proposal.key)

    def give(self, need: str, result: JsonValue) -> None:
        """
        Put the result of a needed task into the ledger.
        """
        task = Task(id=need, role=need)
        before = Assignment(mission=MISSION, tenant="default", task=task)
        claim = self.claim(before, need, 1)
        self.record(claim, Answer(digest="given", attempt=1), result)
