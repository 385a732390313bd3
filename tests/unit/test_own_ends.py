"""
An attempt ends by what is its own: its acts are let finish, what another attempt's
context was refused counts as a failure, and nothing of it begins once it is over.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lease_fakes import BOUND_S, Lender, Shelf, numbered
from unit_fakes import Clock, Stage

from outlast.agents.context import Context
from outlast.contracts.errors import StoreLostError, StoreUnavailableError, TaskError
from outlast.contracts.retries import CANCEL_GRACE_S, Policy
from outlast.execution.item_workers import ItemWorker, ItemWorkerPool
from outlast.ledger.ledger import Ledger
from outlast.ledger.run_permits import RunPermits
from outlast.store.database import Store

Input = dict[str, Any]

FOREIGN = "the context of another attempt"


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(1) as threads:
        yield Stage(ledger, threads)


@pytest.fixture
def lender(store: Store) -> Iterator[Lender]:
    with ThreadPoolExecutor(1) as threads:
        yield Lender(Shelf(store), threads)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "outlast.execution.lease_items.backoff_s", lambda failures: 0.01
    )


class Payer:
    """
    An agent in the middle of an act until it is let go on; the item *ill* fails then.
    """

    def __init__(self, ill: int = 0) -> None:
        self.ill = ill
        self.acting, self.go = asyncio.Event(), asyncio.Event()
        self.paid = 0

    async def play(self, given: Input, ctx: Context) -> int:
        if given["n"] == self.ill:
            await self.acting.wait()
            raise RuntimeError("ill")
        return int(await ctx.once("pay", self.pay, content=given))

    async def pay(self, key: str, given: Input) -> int:
        self.acting.set()
        await self.go.wait()
        self.paid += 1
        return 1


async def test_a_drained_lease_lets_acts_finish(lender: Lender) -> None:
    """
    The next lease finds the effect done, and no item is parked; a second cancellation
    changes nothing.
    """
    payer = Payer()
    lender.fill(numbered(1))
    leaving = asyncio.ensure_future(lender.work(payer.play))
    async with asyncio.timeout(BOUND_S):
        await payer.acting.wait()
        for _ in range(2):
            leaving.cancel()
            await asyncio.sleep(0.01)
        payer.go.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    assert payer.paid == 1
    await lender.work(payer.play)
    assert payer.paid == 1
    assert lender.shelf.dead() == {}
    assert lender.shelf.results() == {1: 1}


async def test_an_error_in_one_lane_lets_the_acts_of_others_finish(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As when the store cannot take one item's failure.
    """
    payer = Payer(ill=1)
    real = Ledger.record_item_failure
    loop = asyncio.get_running_loop()

    def trouble(*_: Any) -> None:
        loop.call_soon_threadsafe(loop.call_later, 0.05, payer.go.set)
        raise StoreLostError("lost")

    monkeypatch.setattr(Ledger, "record_item_failure", trouble)
    lender.fill(numbered(2))
    with pytest.raises(StoreLostError):
        await lender.work(payer.play)
    assert payer.paid == 1
    monkeypatch.setattr(Ledger, "record_item_failure", real)
    await lender.work(payer.play)
    assert payer.paid == 1
    assert lender.shelf.results() == {2: 1}
    assert set(lender.shelf.dead()) == {1}


async def test_no_lane_is_opened_while_all_are_closed() -> None:
    """
    The pulse still looks at them.
    """
    driven: list[ItemWorker] = []
    go = asyncio.Event()

    async def drive(lane: ItemWorker) -> None:
        driven.append(lane)
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()

    lanes = ItemWorkerPool(drive)
    running = asyncio.ensure_future(lanes.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    driven[0].since = 0.0
    closing = asyncio.ensure_future(lanes.close())
    await asyncio.sleep(0)
    lanes.tick(1.0, more=True)
    await asyncio.sleep(0)
    go.set()
    await closing
    await asyncio.gather(running, return_exceptions=True)
    assert len(driven) == 1


@pytest.mark.parametrize("use", ["emit", "save", "plainly"])
async def test_the_context_of_another_attempt_fails_the_task(
    stage: Stage, use: str
) -> None:
    """
    It says nothing of who has this task.
    """
    kept: list[Context] = []

    async def keep(given: Input, ctx: Context) -> None:
        kept.append(ctx)

    async def play(given: Input, ctx: Context) -> None:
        if use == "emit":
            kept[0].emit("hello")
        await kept[0].save(1)

    def plain(given: Input, ctx: Context) -> None:
        ctx.run_sync(kept[0].save(1))

    await stage.play(keep, name="first")
    with pytest.raises(TaskError, match=FOREIGN):
        await stage.play(plain if use == "plainly" else play, name="second")


async def test_the_context_of_another_item_fails_the_item(lender: Lender) -> None:
    """
    Its neighbours are done by the same lease.
    """
    kept: list[Context] = []
    lender.policy = Policy(failures=2)
    lender.fill(numbered(4))

    async def play(given: Input, ctx: Context) -> str:
        kept.append(ctx)
        if given["n"] == 2:
            await kept[0].save(1)
        return "ok"

    await lender.work(play)
    assert lender.shelf.results() == {1: "ok", 3: "ok", 4: "ok"}
    dead = lender.shelf.dead()
    assert set(dead) == {2}
    assert FOREIGN in dead[2].cause


@pytest.fixture
def slow_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let a claim be under way for a while.
    """
    real = Ledger.begin

    def begin(*args: Any) -> Any:
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(Ledger, "begin", begin)


async def test_a_first_write_that_is_cancelled_claims_its_item(
    lender: Lender, slow_claims: None
) -> None:
    """
    The next write of the item waits for the same claim.
    """

    async def play(given: Input, ctx: Context) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ctx.save(1), 0.01)
        await ctx.save(2)
        return "ok"

    lender.fill(numbered(1))
    await lender.work(play)
    assert lender.shelf.results() == {1: "ok"}


async def test_an_item_may_fail_while_it_is_claimed(
    lender: Lender, slow_claims: None
) -> None:
    """
    Its next try, in the same lease, finds the claim that the first one has begun.
    """
    tries = 0

    async def play(given: Input, ctx: Context) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.wait_for(ctx.save(1), 0.01)
        await ctx.save(2)
        return "ok"

    lender.fill(numbered(1))
    await lender.work(play)
    assert tries == 2
    assert lender.shelf.results() == {1: "ok"}


@pytest.mark.parametrize("caught", [True, False])
async def test_a_claim_that_has_failed_is_made_again(
    lender: Lender, monkeypatch: pytest.MonkeyPatch, caught: bool
) -> None:
    """
    By the next write of the item, or by its next try; and the lease lives.
    """
    real, begun = Ledger.begin, 0

    def begin(*args: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise StoreUnavailableError("away")
        return real(*args)

    async def play(given: Input, ctx: Context) -> str:
        if given["n"] == 1:
            try:
                await ctx.save(1)
            except StoreUnavailableError:
                if not caught:
                    raise
            await ctx.save(2)
        return "ok"

    monkeypatch.setattr(Ledger, "begin", begin)
    lender.fill(numbered(2))
    await lender.work(play)
    assert begun == 2
    assert lender.shelf.results() == {1: "ok", 2: "ok"}


async def test_a_plain_agent_does_not_begin_after_its_end(
    ledger: Ledger, tmp_path: Path
) -> None:
    """
    It was held by the mesh, and cancelled meanwhile: it ends at once and is no leak.
    """
    run = "trial~run~1"
    permits = RunPermits(tmp_path / "runs", Clock(time.time()))
    permits.add(run)
    called: list[bool] = []

    def play(given: Input, ctx: Context) -> None:
        called.append(ctx.cancelled)

    with ThreadPoolExecutor(1) as threads:
        stage = Stage(Ledger(ledger.store, permits=permits), threads, mission=run)
        playing = asyncio.ensure_future(stage.play(play))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        assert time.monotonic() - began < CANCEL_GRACE_S
        permits.grant(run)
        await asyncio.sleep(0.1)
    assert called == []
    assert stage.leaks == 0
