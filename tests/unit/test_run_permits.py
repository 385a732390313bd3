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
from outlast.contracts.errors import HeldError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.ids import FanOutId
from outlast.contracts.models import Checkpoint
from outlast.contracts.policies import HELD_S, PERMIT_S, Policy
from outlast.contracts.scopes import Scope
from outlast.execution.attempt import Place
from outlast.execution.in_flight import NOBODY
from outlast.execution.lease import Lent
from outlast.execution.temporal_activities import ended
from outlast.ledger.ledger import Ledger
from outlast.ledger.run_permits import Permits, permits_of
from outlast.store.database import Store

RUN = "trial~run~1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permits(tmp_path: Path, clock: Clock) -> Permits:
    return Permits(tmp_path / "runs", clock)


def test_what_no_mesh_has_handed_out_needs_no_word(
    permits: Permits, tmp_path: Path
) -> None:
    """
    Missions of the starter go on, on a peer and on a fleet that is none.
    """
    assert permits.allow("mine")
    assert permits_of(tmp_path).allow("mine")
    permits.enter("theirs~run~1")
    assert permits.allow("mine")


def test_a_word_is_good_for_a_while(permits: Permits, clock: Clock) -> None:
    """
    A run waits for its first word, and again when the last one is old.
    """
    permits.enter("job~run~1")
    assert not permits.allow("job~run~1")
    permits.grant("job~run~1")
    assert permits.allow("job~run~1")
    clock.turn(PERMIT_S)
    assert not permits.allow("job~run~1")
    permits.grant("job~run~1")
    assert permits.allow("job~run~1")


def test_a_word_is_taken_back_at_once(permits: Permits) -> None:
    """
    And a run that has gone needs none any more.
    """
    permits.enter("job~run~1")
    permits.grant("job~run~1")
    permits.withdraw("job~run~1")
    assert not permits.allow("job~run~1")
    permits.drop("job~run~1")
    assert permits.allow("job~run~1")


def test_a_clock_that_is_set_back_makes_no_word_longer(
    permits: Permits, clock: Clock
) -> None:
    """
    A word from the future is none.
    """
    permits.enter("job~run~1")
    permits.grant("job~run~1")
    clock.turn(-3600)
    assert not permits.allow("job~run~1")


def test_the_batch_that_a_run_has_spread_hangs_on_its_word(permits: Permits) -> None:
    """
    Items are held with the mission that asked for them.
    """
    permits.enter("job~run~1")
    assert not permits.allow("job~run~1~fanout~many")


def test_a_mission_within_a_run_hangs_on_its_word(permits: Permits) -> None:
    """
    However deep it lies, and with the batch that it has spread.
    """
    permits.enter("job~run~1")
    assert not permits.allow("job~run~1~child~part")
    assert not permits.allow("job~run~1~child~part~2~child~deeper~fanout~many")
    assert permits.allow("job~run~12~child~part")
    permits.grant("job~run~1")
    assert permits.allow("job~run~1~child~part")


def test_words_are_kept_for_those_who_come_later(tmp_path: Path, clock: Clock) -> None:
    """
    A run of an earlier life is held, by whoever reads: its peer must look first.
    """
    Permits(tmp_path / "mesh" / "runs", clock).enter("job~run~1")
    assert not permits_of(tmp_path).allow("job~run~1")


def test_what_stands_still_is_listed(permits: Permits, clock: Clock) -> None:
    """
    A fleet that is no peer says at its start which runs wait for one.
    """
    assert permits.held == []
    for each in ("job~run~1", "job~run~2"):
        permits.enter(each)
    permits.grant("job~run~1")
    assert permits.held == ["job~run~2"]
    clock.turn(PERMIT_S)
    assert permits.held == ["job~run~1", "job~run~2"]


@pytest.fixture
def held(store: Store, permits: Permits) -> Iterator[Stage]:
    """
    A stage on which the trial mission is held.
    """
    permits.enter(RUN)
    with ThreadPoolExecutor(4) as threads:
        yield Stage(Ledger(store, permits=permits), threads, mission=RUN)


async def test_nothing_begins_while_a_run_is_held(
    held: Stage, permits: Permits
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
    held: Stage, permits: Permits
) -> None:
    """
    Held in the middle, an agent waits at its next save or effect.
    """
    acted: list[str] = []
    midway = asyncio.Event()

    async def play(given: dict[str, Any], ctx: Context) -> str:
        permits.withdraw(RUN)
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
    held: Stage, permits: Permits
) -> None:
    """
    Long before its attempt limit, which would count against its task.
    """
    held.policy = Policy(attempt_limit_s=0.2)

    async def play(given: dict[str, Any], ctx: Context) -> str:
        permits.withdraw(RUN)
        await ctx.save({"step": 1})
        return "done"

    permits.grant(RUN)
    with pytest.raises(HeldError):
        await asyncio.wait_for(held.play(play), 20)
    assert Policy().held_s == HELD_S < Policy().attempt_limit_s / 2


async def test_being_handed_on_by_the_mesh_is_no_failure(ledger: Ledger) -> None:
    """
    The workflow hears of it as of a worker that drains, which counts nothing.
    """

    async def held() -> None:
        raise HeldError("held")

    saved = Checkpoint(seq=3)
    place = SimpleNamespace(ledger=ledger, drain_s=0.0, beat_s=1.0)
    attempt: Any = SimpleNamespace(
        claim=None, checkpoint=saved, hand=NOBODY, place=place
    )
    with pytest.raises(ApplicationError) as told:
        await ended(attempt, held())
    assert told.value.type == FailureType.DRAINED
    assert told.value.non_retryable
    details = FailureDetails.of(told.value.details)
    assert details == FailureDetails(detected_by=Detector.DRAIN, checkpoint=saved)


async def test_no_item_begins_while_its_run_is_held(
    store: Store, permits: Permits
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
        held = Place(Ledger(store, permits=permits), threads, 0.01)
        permits.enter(RUN)
        work = asyncio.create_task(
            Lent(lent.agent, lent.lease, lent.fence, held).work()
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(called.wait(), 0.2)
        permits.grant(RUN)
        assert (await work).settled == 1
