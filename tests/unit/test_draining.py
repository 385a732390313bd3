"""
What a draining worker does with the attempts that it has in hand.
"""

import asyncio
import threading
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from unit_fakes import Described, RunClient

from outlast import Context
from outlast.agents.agent import Agent
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.failures import FailureType
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Task
from outlast.execution.end_records import flush_closing
from outlast.execution.temporal_activities import task_activity
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.claim import Claim
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store

LONG_S = 60.0  # nobody waits for it
BOUND_S = 10.0


class Work:
    """
    An agent that takes one step and then works until it is let go.
    """

    def __init__(self) -> None:
        self.at_work = asyncio.Event()
        self.may_end = asyncio.Event()

    async def play(self, given: Any, ctx: Context) -> str:
        await ctx.save({"step": 1})
        self.at_work.set()
        await self.may_end.wait()
        return "done"


def attempted(
    ledger: Ledger, plays: Any, drain_s: float
) -> tuple[ActivityEnvironment, "asyncio.Future[ResultRef]", WorkerContext]:
    """
    Begin an attempt on a worker that lets those of less than *drain_s* finish.
    """
    place = WorkerContext(ledger, drain_s=drain_s)
    current = RunClient(Described("test-run"))  # as the environment calls its run
    worker = ActivityEnvironment(client=current)  # type: ignore[arg-type]
    assignment = AttemptInput(mission="m", tenant="t", task=Task(id="t", role="work"))
    play = task_activity(Agent("work", 1, plays), place)
    return worker, asyncio.ensure_future(worker.run(play, assignment)), place


async def test_a_long_attempt_is_handed_on_at_once(ledger: Ledger) -> None:
    """
    Whoever takes it over need not wait for what does not end soon anyway.
    """
    work = Work()
    worker, attempt, place = attempted(ledger, work.play, drain_s=0.0)
    await work.at_work.wait()
    worker.worker_shutdown()
    with pytest.raises(ApplicationError) as handed_on:
        await asyncio.wait_for(attempt, BOUND_S)
    await flush_closing(place.closing)
    assert handed_on.value.type == FailureType.DRAINED
    assert handed_on.value.details[0]["checkpoint"]["seq"] == 1  # it goes on from there


async def test_a_short_attempt_is_let_finish(ledger: Ledger) -> None:
    """
    What ends within the drain time need not be done again elsewhere.
    """
    work = Work()
    worker, attempt, _ = attempted(ledger, work.play, drain_s=LONG_S)
    await work.at_work.wait()
    worker.worker_shutdown()
    work.may_end.set()
    answer = await attempt
    assert ledger.result("m", "t") == (answer, "done")


class Slow(Ledger):
    """
    A ledger whose store takes its time to count a failure.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.counting = threading.Event()
        self.may_count = threading.Event()

    def record_failure(self, claim: Claim, *how: Any) -> int:
        self.counting.set()
        assert self.may_count.wait(BOUND_S)
        return super().record_failure(claim, *how)


async def test_a_drain_does_not_change_an_end_that_is_being_noted(
    ledger: Ledger,
) -> None:
    """
    The agent has raised, the store is slow, and the worker drains meanwhile: what it
    raised is what is reported.
    """

    async def raises(given: Any, ctx: Context) -> str:
        raise ValueError("no such customer")

    slow = Slow(ledger.store)
    worker, attempt, _ = attempted(slow, raises, drain_s=0.0)
    await asyncio.to_thread(slow.counting.wait, BOUND_S)
    worker.worker_shutdown()
    worker.cancel()  # as the SDK does when the drain time is over
    for _ in range(5):
        await asyncio.sleep(0)
    slow.may_count.set()
    with pytest.raises(ApplicationError, match="no such customer") as told:
        await asyncio.wait_for(attempt, BOUND_S)
    assert told.value.type == FailureType.FAILED
