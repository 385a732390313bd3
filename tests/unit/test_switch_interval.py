"""
The interpreter changes hands often while a lease is worked on or an attempt begins.
"""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lease_fakes import Lender, Shelf, numbered
from unit_fakes import Stage

from outlast.agents.context import Context
from outlast.execution.switch_interval import SHORT_SWITCH_S
from outlast.ledger.ledger import AttemptStart, Ledger
from outlast.store.database import Store

OWN_S = 0.007  # what an agent may have set


@pytest.fixture(autouse=True)
def own_interval() -> Iterator[None]:
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(OWN_S)
    yield
    sys.setswitchinterval(usual_s)


@pytest.fixture
def lender(store: Store) -> Iterator[Lender]:
    threads = ThreadPoolExecutor(16)
    yield Lender(Shelf(store), threads)
    threads.shutdown(wait=False, cancel_futures=True)


async def test_only_while_the_last_of_the_leases_lasts(lender: Lender) -> None:
    lender.fill(numbered(2))
    seen: list[float] = []
    first_is_done = asyncio.Event()

    async def look(given: dict[str, Any], ctx: Context) -> None:
        if given["n"] == 2:
            await first_is_done.wait()
        seen.append(sys.getswitchinterval())

    second = asyncio.ensure_future(lender.work(look, (2, 3)))
    await lender.work(look, (1, 2))
    first_is_done.set()
    await second
    assert seen == pytest.approx([SHORT_SWITCH_S, SHORT_SWITCH_S])
    assert sys.getswitchinterval() == pytest.approx(OWN_S, rel=1e-3)


async def test_while_an_attempt_begins_and_not_while_it_lasts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, seen = Ledger(store), []
    begin = ledger.begin

    def look(*args: Any) -> AttemptStart:
        seen.append(sys.getswitchinterval())
        return begin(*args)

    async def play(given: dict[str, Any], ctx: Context) -> None:
        seen.append(sys.getswitchinterval())

    monkeypatch.setattr(ledger, "begin", look)
    with ThreadPoolExecutor() as threads:
        await Stage(ledger, threads).play(play)
    assert seen == pytest.approx([SHORT_SWITCH_S, OWN_S], rel=1e-3)


async def test_not_after_a_lease_that_was_ended(lender: Lender) -> None:
    lender.fill(numbered(1))
    begun = asyncio.Event()

    async def hang(given: dict[str, Any], ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    lease = asyncio.ensure_future(lender.work(hang))
    await begun.wait()
    lease.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lease
    assert sys.getswitchinterval() == pytest.approx(OWN_S, rel=1e-3)
