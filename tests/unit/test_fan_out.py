"""
A fan-out's items are there as soon as its answer is recorded, and never without it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lease_fakes import canonical
from unit_fakes import MISSION, ROLE, TENANT, Stage, refused

from outlast.agents.context import Context
from outlast.contracts.batches import Batch, ItemRange
from outlast.contracts.errors import GiveUp, StaleAttemptError
from outlast.contracts.ids import FanOutId
from outlast.contracts.results import FanOut
from outlast.contracts.scopes import Scope
from outlast.ledger.batches import COMPLETED, BatchRecords
from outlast.ledger.items import ItemRecords
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store

NAME = str(FanOutId(MISSION, "only"))


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(2) as threads:
        yield Stage(ledger, threads)


def fans_out(
    *numbers: int, first: Callable[[], Awaitable[Any]] | None = None
) -> Callable[..., Awaitable[FanOut]]:
    """
    Make an agent that asks for the items *numbers*, once *first* is over.
    """

    async def play(given: dict[str, Any], ctx: Context) -> FanOut:
        if first is not None:
            await first()
        return FanOut(role=ROLE, items=[{"n": number} for number in numbers])

    return play


def left(store: Store) -> str:
    return (
        ItemRecords(store)
        .read(NAME, ItemRange(start=1, stop=100), 100)
        .replace(" ", "")
    )


def left_behind(store: Store, role: str, *numbers: int) -> BatchRecords:
    """
    Lay out a batch that no answer asks for.
    """
    batches = BatchRecords(store)
    batches.open_batch(Batch(id=NAME, role=role, tenant=TENANT, scope=Scope(path="m")))
    ItemRecords(store).add(
        NAME, [(canonical({"n": number}), None) for number in numbers]
    )
    return batches


async def test_an_overtaken_attempt_leaves_no_items(stage: Stage, store: Store) -> None:
    """
    Its fan-out is refused whole: the items and the batch are those of the later one.
    """
    there, go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        there.set()
        await go.wait()

    late = asyncio.ensure_future(stage.play(fans_out(1, 2, first=first)))
    await there.wait()
    await stage.play(fans_out(11, 12, 12))
    BatchRecords(store).close(NAME, cancelled=True)
    before = BatchRecords(store).find(NAME)
    go.set()
    with pytest.raises(StaleAttemptError):
        await late
    assert refused(store) == ["result"]
    found = BatchRecords(store).find(NAME)
    assert found == before
    assert found is not None
    assert (found.closed, found.total, found.finished_at is None) == (True, 2, False)
    assert [str(n) in left(store) for n in (11, 12)] == [True, True]


async def test_one_that_was_overtaken_before_anything_is_there_opens_no_batch(
    stage: Stage, store: Store
) -> None:
    """
    Not even an empty one.
    """

    async def overtaken() -> None:
        stage.overtake()

    with pytest.raises(StaleAttemptError):
        await stage.play(fans_out(1, first=overtaken))
    assert BatchRecords(store).records() == []
    assert left(store) == "[]"


async def test_what_was_never_recorded_is_replaced(stage: Stage, store: Store) -> None:
    """
    Another plan, for another role, is played alone.
    """
    batches = left_behind(store, "other", 1, 2, 3)
    answer = await stage.play(fans_out(11, 12))
    assert answer.fan_out is not None
    found = batches.find(NAME)
    assert found is not None
    assert (found.role, found.total, found.closed) == (ROLE, 2, True)
    assert '"n":1}' not in left(store).replace("\\", "")
    assert "11" in left(store)


async def test_a_finished_batch_is_not_opened_again(stage: Stage, store: Store) -> None:
    """
    It stays as it is, and the attempt says why.
    """
    batches = left_behind(store, ROLE)
    batches.close_input(NAME)
    batches.close(NAME, cancelled=False)
    with pytest.raises(GiveUp, match="handed out before"):
        await stage.play(fans_out(11))
    found = batches.find(NAME)
    assert found is not None
    assert (found.state, found.total) == (COMPLETED, 0)
    assert stage.ledger.result(MISSION, "only") is None


async def test_each_round_has_a_batch_of_its_own(stage: Stage, store: Store) -> None:
    """
    What an earlier round has handed out stays.
    """
    await stage.play(fans_out(1))
    await stage.play(fans_out(2, 3), round_=2)
    totals = {each.id: each.total for each in BatchRecords(store).records()}
    assert totals == {NAME: 1, str(FanOutId(MISSION, "only", 2)): 2}
