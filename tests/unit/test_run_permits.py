"""
The mesh's word on a mission: how long it is good, and what waits without it.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lease_fakes import Lender, Shelf, numbered
from temporalio.exceptions import ApplicationError
from unit_fakes import Clock, Stage

from outlast.agents.context import Context
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import RunSuspendedError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.ids import FanOutId
from outlast.contracts.mesh_timing import RUN_PERMIT_TTL_S
from outlast.contracts.retries import MAX_SUSPENDED_S, Policy
from outlast.contracts.scopes import Scope
from outlast.execution.ends import with_failures_translated
from outlast.execution.in_flight import NULL_SLOT
from outlast.execution.lease import LeaseExecution
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.ledger import Ledger
from outlast.ledger.run_permits import RunPermits, run_permits
from outlast.store.database import Store

RUN = "trial~run~1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permits(tmp_path: Path, clock: Clock) -> RunPermits:
    return RunPermits(tmp_path / "runs", clock)


def test_what_no_mesh_has_handed_out_needs_no_word(
    permits: RunPermits, tmp_path: Path
) -> None:
    """
    Missions of the starter go on, on a peer and on a fleet that is none.
    """
    assert permits.is_permitted("mine")
    assert run_permits(tmp_path).is_permitted("mine")
    permits.add("theirs~run~1")
    assert permits.is_permitted("mine")


def test_a_word_is_good_for_a_while(permits: RunPermits, clock: Clock) -> None:
    """
    A run waits for its first word, and again when the last one is old.
    """
    permits.add("job~run~1")
    assert not permits.is_permitted("job~run~1")
    permits.grant("job~run~1")
    assert permits.is_permitted("job~run~1")
    clock.turn(RUN_PERMIT_TTL_S)
    assert not permits.is_permitted("job~run~1")
    permits.grant("job~run~1")
    assert permits.is_permitted("job~run~1")


def test_a_word_is_taken_back_at_once(permits: RunPermits) -> None:
    """
    And a run that has gone needs none any more.
    """
    permits.add("job~run~1")
    permits.grant("job~run~1")
    permits.revoke("job~run~1")
    assert not permits.is_permitted("job~run~1")
    permits.remove("job~run~1")
    assert permits.is_permitted("job~run~1")


def test_a_clock_that_is_set_back_makes_no_word_longer(
    permits: RunPermits, clock: Clock
) -> None:
    """
    A word from the future is none.
    """
    permits.add("job~run~1")
    permits.grant("job~run~1")
    clock.turn(-3600)
    assert not permits.is_permitted("job~run~1")


def test_the_batch_that_a_run_has_spread_hangs_on_its_word(permits: RunPermits) -> None:
    """
    Items are held with the mission that asked for them.
    """
    permits.add("job~run~1")
    assert not permits.is_permitted("job~run~1~fanout~many")


def test_a_mission_within_a_run_hangs_on_its_word(permits: RunPermits) -> None:
    """
    However deep it lies, and with the batch that it has spread.
    """
    permits.add("job~run~1")
    assert not permits.is_permitted("job~run~1~child~part")
    assert not permits.is_permitted("job~run~1~child~part~2~child~deeper~fanout~many")
    assert permits.is_permitted("job~run~12~child~part")
    permits.grant("job~run~1")
    assert permits.is_permitted("job~run~1~child~part")


def test_words_are_kept_for_those_who_come_later(tmp_path: Path, clock: Clock) -> None:
    """
    A run of an earlier life is held, by whoever reads: its peer must look first.
    """
    RunPermits(tmp_path / "mesh" / "runs", clock).add("job~run~1")
    assert not run_permits(tmp_path).is_permitted("job~run~1")


def test_what_stands_still_is_listed(permits: RunPermits, clock: Clock) -> None:
    """
    A fleet that is no peer says at its start which runs wait for one.
    """
    assert permits.suspended == []
    for each in ("job~run~1", "job~run~2"):
        permits.add(each)
    permits.grant("job~run~1")
    assert permits.suspended == ["job~run~2"]
    clock.turn(RUN_PERMIT_TTL_S)
    assert permits.suspended == ["job~run~1", "job~run~2"]


@pytest.fixture
def held(store: Store, permits: RunPermits) -> Iterator[Stage]:
    """
    A stage on which the trial mission is held.
    """
    permits.add(RUN)
    with ThreadPoolExecutor(4) as threads:
        yield Stage(Ledger(store, permits=permits), threads, mission=RUN)


async def test_nothing_begins_while_a_run_is_held(
    held: Stage, permits: RunPermits
) -> None:
    """
    The agent is called when the word has come, and being held is no stall.
    """
    called = asyncio.Event()

    async def play(given: dict[str, Any], ctx: Context) -> str:
        called.set()
        return "done"

    attempt = asyncio.create_task(held.play(play))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(called.wait(), 0.2)
    permits.grant(RUN)
    await attempt
    assert called.is_set()


async def test_nothing_is_saved_or_done_while_a_run_is_held(
    held: Stage, permits: RunPermits
) -> None:
    """
    Held in the middle, an agent waits at its next save or effect.
    """
    acted: list[str] = []
    midway = asyncio.Event()

    async def play(given: dict[str, Any], ctx: Context) -> str:
        permits.revoke(RUN)
        midway.set()
        await ctx.save({"step": 1})
        await ctx.once("effect", acted.append, content=None)
        return "done"

    permits.grant(RUN)
    attempt = asyncio.create_task(held.play(play))
    await midway.wait()
    await asyncio.sleep(0.1)
    assert not attempt.done()
    assert acted == []
    permits.grant(RUN)
    await attempt
    assert len(acted) == 1


async def test_what_is_held_for_long_is_handed_on(
    held: Stage, permits: RunPermits
) -> None:
    """
    Long before its attempt limit, which would count against its task.
    """
    held.policy = Policy(attempt_limit_s=0.2)

    async def play(given: dict[str, Any], ctx: Context) -> str:
        permits.revoke(RUN)
        await ctx.save({"step": 1})
        return "done"

    permits.grant(RUN)
    with pytest.raises(RunSuspendedError):
        await asyncio.wait_for(held.play(play), 20)
    assert Policy().max_suspended_s == MAX_SUSPENDED_S < Policy().attempt_limit_s / 2


async def test_being_handed_on_by_the_mesh_is_no_failure(ledger: Ledger) -> None:
    """
    The workflow hears of it as of a worker that drains, which counts nothing.
    """

    async def held() -> None:
        raise RunSuspendedError("held")

    saved = Checkpoint(seq=3)
    place = WorkerContext(ledger)
    attempt: Any = SimpleNamespace(
        claim=None, checkpoint=saved, in_flight=NULL_SLOT, worker=place
    )
    with pytest.raises(ApplicationError) as told:
        await with_failures_translated(attempt, held())
    assert told.value.type == FailureType.DRAINED
    assert told.value.non_retryable
    details = FailureDetails.of(told.value.details)
    assert details == FailureDetails(detected_by=Detector.DRAIN, checkpoint=saved)


async def test_no_item_begins_while_its_run_is_held(
    store: Store, permits: RunPermits
) -> None:
    """
    The items of a lease wait as tasks do.
    """
    called = asyncio.Event()

    async def play(given: dict[str, Any], ctx: Context) -> str:
        called.set()
        return "done"

    with ThreadPoolExecutor(4) as threads:
        scope = Scope(path="trial").within("t", 1)
        shelf = Shelf(store, str(FanOutId(RUN, "t")), scope=scope)
        lender = Lender(shelf, threads, scope=scope)
        lender.fill(numbered(1))
        lent = lender.lent(play)
        held = WorkerContext(Ledger(store, permits=permits), threads, 0.01)
        permits.add(RUN)
        work = asyncio.create_task(
            LeaseExecution(lent.agent, lent.lease, lent.fence, held).run()
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(called.wait(), 0.2)
        permits.grant(RUN)
        assert (await work).settled == 1
