"""
What a draining worker does with the attempts that it has in hand.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from outlast import Run
from outlast.attempt.agent import Agent
from outlast.attempt.guard import Place
from outlast.attempt.host import closed, host
from outlast.attempt.ledger import Ledger
from outlast.contracts.errors import DRAINED
from outlast.contracts.models import Answer, Assignment, Task

LONG_S = 60.0  # nobody waits for it
BOUND_S = 10.0


class Work:
    """
    An agent that takes one step and then works until it is let go.
    """

    def __init__(self) -> None:
        self.at_work = asyncio.Event()
        self.may_end = asyncio.Event()

    async def play(self, given: Any, run: Run) -> str:
        await run.save({"step": 1})
        self.at_work.set()
        await self.may_end.wait()
        return "done"


def attempted(
    ledger: Ledger, work: Work, drain_s: float
) -> tuple[ActivityEnvironment, "asyncio.Future[Answer]"]:
    """
    Begin an attempt on a worker that lets those of less than *drain_s* finish.
    """
    place = Place(ledger, ThreadPoolExecutor(1), drain_s=drain_s)
    worker = ActivityEnvironment()
    assignment = Assignment(mission="m", tenant="t", task=Task(id="t", role="work"))
    play = host(Agent("work", 1, work.play), place)
    return worker, asyncio.ensure_future(worker.run(play, assignment))


async def test_a_long_attempt_is_handed_on_at_once(ledger: Ledger) -> None:
    """
    Whoever takes it over need not wait for what does not end soon anyway.
    """
    work = Work()
    worker, attempt = attempted(ledger, work, drain_s=0.0)
    await work.at_work.wait()
    worker.worker_shutdown()
    with pytest.raises(ApplicationError) as handed_on:
        await asyncio.wait_for(attempt, BOUND_S)
    await closed()
    assert handed_on.value.type == DRAINED
    assert handed_on.value.details[0]["seq"] == 1  # it goes on from there


async def test_a_short_attempt_is_let_finish(ledger: Ledger) -> None:
    """
    What ends within the drain time need not be done again elsewhere.
    """
    work = Work()
    worker, attempt = attempted(ledger, work, drain_s=LONG_S)
    await work.at_work.wait()
    worker.worker_shutdown()
    work.may_end.set()
    answer = await attempt
    assert ledger.result("m", "t") == (answer, "done")
