"""
How activities end whose store is away: given back in time, and counted nowhere.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from unit_fakes import Described, RunClient

import outlast.execution.end_records
from outlast import Context
from outlast.agents.agent import Agent
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.errors import StoreLostError, StoreUnavailableError
from outlast.contracts.failures import FailureType
from outlast.contracts.tasks import Task
from outlast.execution.handback import retry_while_store_unavailable
from outlast.execution.temporal_activities import task_activity
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.ledger import Ledger
from outlast.store.calls import StoreTrouble
from outlast.store.database import Store

BOUND_S = 10.0
LIMIT = timedelta(seconds=0.8)


class Away(Store):
    """
    A store that is away from when the test says so.
    """

    away = False
    lost = False

    def write(self, durable: bool = True) -> Any:
        if self.lost:
            raise StoreLostError("it is gone")
        if self.away:
            raise StoreUnavailableError("its disk is full")
        return super().write(durable)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Away]:
    made = Away(tmp_path / "store.db")
    yield made
    made.close()


def attempted(
    store: Store,
    play: Any,
    limit: timedelta = LIMIT,
    carried: Checkpoint | None = None,
) -> Any:
    """
    Begin an attempt that the server would end after *limit*.
    """
    current = RunClient(Described("test-run"))  # as the environment calls its run
    worker = ActivityEnvironment(client=current)  # type: ignore[arg-type]
    worker.info = replace(worker.info, start_to_close_timeout=limit)
    beats: list[Any] = []
    worker.on_heartbeat = lambda *told: beats.append(told)
    place = WorkerContext(Ledger(store), heartbeat_s=0.02)
    task = Task(id="t", role="work")
    assignment = AttemptInput(mission="m", tenant="t", task=task, checkpoint=carried)
    play = task_activity(Agent("work", 1, play), place)
    return asyncio.ensure_future(worker.run(play, assignment)), beats


async def end_of(attempt: "asyncio.Future[Any]") -> ApplicationError:
    with pytest.raises(ApplicationError) as ended:
        await asyncio.wait_for(attempt, BOUND_S)
    return ended.value


def is_uncounted(error: ApplicationError) -> bool:
    return error.type == FailureType.STORE_AWAY and not error.non_retryable


async def test_an_attempt_that_waits_is_given_back_before_its_limit(
    store: Away,
) -> None:
    """
    The server would count it as too long; it goes on from its last saved step.
    """

    async def play(given: Any, ctx: Context) -> None:
        await ctx.save(1)
        store.away = True
        await ctx.save(2)

    attempt, beats = attempted(store, play)
    began = asyncio.get_running_loop().time()
    ended = await end_of(attempt)
    assert asyncio.get_running_loop().time() - began < LIMIT.total_seconds()
    assert is_uncounted(ended)
    assert "disk is full" in ended.message
    assert ended.details[0]["checkpoint"]["seq"] == 1
    assert Heartbeat.model_validate(beats[-1][0]).checkpoint.seq == 1


async def test_an_attempt_that_cannot_claim_hands_on_what_it_was_given(
    store: Away,
) -> None:
    """
    Its progress is the task's, also where the store is away before it has begun.
    """
    store.away = True
    given = Checkpoint(seq=3, value=[1])
    attempt, _ = attempted(store, None, carried=given)
    ended = await end_of(attempt)
    assert is_uncounted(ended)
    assert ended.details[0]["checkpoint"]["seq"] == 3


async def test_what_an_agent_raises_while_the_store_is_away_is_not_counted(
    store: Away,
) -> None:
    """
    Its own time limit, for one, runs out over a save.
    """

    async def play(given: Any, ctx: Context) -> None:
        store.away = True
        async with asyncio.timeout(0.1):
            await ctx.save(1)

    attempt, _ = attempted(store, play, timedelta(seconds=60))
    ended = await end_of(attempt)
    assert is_uncounted(ended)
    assert "disk is full" in ended.message  # and it was not tried to count it


@pytest.mark.parametrize("caught", [True, False])
async def test_a_lost_store_is_no_failure_of_the_agent(
    store: Away, caught: bool
) -> None:
    """
    Whatever it makes of it.
    """

    async def play(given: Any, ctx: Context) -> str:
        store.lost = True
        try:
            await ctx.save(1)
        except StoreLostError:
            store.lost = False  # put back by somebody
            if caught:
                return "as if nothing was"
            raise ValueError("of mine") from None
        return "never"

    attempt, _ = attempted(store, play, timedelta(seconds=60))
    assert is_uncounted(await end_of(attempt))


async def test_a_failure_that_cannot_be_counted_now_is_not_counted(
    store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The agent is tried again; and it beats meanwhile, or it would look lost.
    """
    monkeypatch.setattr(outlast.execution.end_records, "COUNT_LIMIT_S", 0.3)

    async def play(given: Any, ctx: Context) -> None:
        asyncio.get_running_loop().call_soon(setattr, store, "away", True)
        raise ValueError("ill")

    attempt, beats = attempted(store, play, timedelta(seconds=60))
    assert is_uncounted(await end_of(attempt))
    assert len(beats) > 5


async def test_a_failure_with_its_store_there_is_counted(store: Away) -> None:
    """
    As ever.
    """

    async def play(given: Any, ctx: Context) -> None:
        raise ValueError("ill")

    attempt, _ = attempted(store, play, timedelta(seconds=60))
    assert (await end_of(attempt)).type == FailureType.FAILED


@pytest.mark.parametrize("how", ["away", "lost"])
async def test_the_books_are_kept_later(store: Away, how: str) -> None:
    """
    The server tries again, for as long as it takes.
    """
    setattr(store, how, True)

    async def close() -> None:
        await retry_while_store_unavailable(lambda: store.run(write, store), store)

    worker = ActivityEnvironment()
    worker.info = replace(worker.info, start_to_close_timeout=LIMIT)
    ended = await end_of(asyncio.ensure_future(worker.run(close)))
    assert is_uncounted(ended)
    assert ended.next_retry_delay is not None


def write(store: Store) -> None:
    with store.write():
        pass


async def test_a_cancellation_is_not_taken_for_the_store(store: Away) -> None:
    """
    Who is cancelled while all is well is cancelled.
    """

    async def close() -> None:
        await retry_while_store_unavailable(lambda: asyncio.sleep(BOUND_S), store)

    worker = ActivityEnvironment()
    work = asyncio.ensure_future(worker.run(close))
    await asyncio.sleep(0.05)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_a_store_that_stays_away_is_asked_ever_later(store: Away) -> None:
    """
    Up to half a minute.
    """
    from outlast.execution.handback import uncounted_error

    pauses = []
    for away_s in (0, 10, 60, 3_600):
        since = StoreTrouble("full", outlast.execution.handback.time.time() - away_s)
        store.calls._trouble = since
        delay = uncounted_error("full", store).next_retry_delay
        assert delay is not None
        pauses.append(delay.total_seconds())
    assert pauses == [0.5, pytest.approx(2.5, abs=0.1), pytest.approx(15, abs=0.1), 30]
