"""
The interpreter changes hands often while a lease is worked on, and not otherwise.
"""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lease_fakes import Lender, Shelf, numbered

from outlast.attempt.brisk import SWITCH_S, USUAL_S
from outlast.attempt.run import Run
from outlast.store.database import Store


@pytest.fixture
def lender(store: Store) -> Iterator[Lender]:
    threads = ThreadPoolExecutor(16)
    yield Lender(Shelf(store), threads)
    threads.shutdown(wait=False, cancel_futures=True)


async def test_only_while_the_last_of_the_leases_lasts(lender: Lender) -> None:
    lender.fill(numbered(2))
    seen: list[float] = []
    first_is_done = asyncio.Event()

    async def look(given: dict[str, Any], run: Run) -> None:
        if given["n"] == 2:
            await first_is_done.wait()
        seen.append(sys.getswitchinterval())

    second = asyncio.ensure_future(lender.work(look, (2, 3)))
    await lender.work(look, (1, 2))
    first_is_done.set()
    await second
    assert seen == pytest.approx([SWITCH_S, SWITCH_S])
    assert sys.getswitchinterval() == pytest.approx(USUAL_S)


async def test_not_after_a_lease_that_was_ended(lender: Lender) -> None:
    lender.fill(numbered(1))
    begun = asyncio.Event()

    async def hang(given: dict[str, Any], run: Run) -> None:
        begun.set()
        await asyncio.Event().wait()

    lease = asyncio.ensure_future(lender.work(hang))
    await begun.wait()
    lease.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lease
    assert sys.getswitchinterval() == pytest.approx(USUAL_S)
