"""
Saves at the same moment: none loses another, and what was replaced takes no room.
"""

import asyncio
import random
import shutil
import string
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import CacheStats
from unit_fakes import ROLE, Stage, assignment

from outlast.agents.context import Context
from outlast.contracts.attempts import Checkpoint
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import checkpoints

SEARCHES = 8
TRIALS = 10


class BrokenError(Exception):
    """
    What the agents here raise.
    """


@pytest.fixture
def stage(ledger: Ledger) -> Any:
    with ThreadPoolExecutor() as threads:
        yield Stage(ledger, threads)


async def resumed(stage: Stage, name: str) -> Any:
    """
    Read what the next attempt would go on from.
    """
    found: list[Any] = []

    async def look(given: dict[str, Any], ctx: Context) -> None:
        found.append(await ctx.resume(dict, {}))

    await stage.play(look, name=name)
    return found[0]


def numbers(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(sa.select(checkpoints.c.seq)))


@pytest.mark.parametrize("size", [1, 5_000], ids=["small", "large"])
async def test_searches_at_the_same_moment_lose_nothing(
    stage: Stage, store: Store, size: int
) -> None:
    """
    Each saves all that was found so far: once all saves were awaited, all of it is
    there, the heartbeat carries the newest, and each save has a number of its own.
    """
    beats: list[Checkpoint] = []

    async def play(given: dict[str, Any], ctx: Context) -> None:
        found: dict[str, str] = {}

        async def search(number: int) -> None:
            found[str(number)] = "x" * size
            await ctx.save(found)

        await asyncio.gather(*map(search, range(SEARCHES)))
        beats.append(ctx.heartbeat.checkpoint)
        raise BrokenError

    for trial in range(TRIALS):
        name = f"trial-{trial}"
        with pytest.raises(BrokenError):
            await stage.play(play, name=name)
        assert len(await resumed(stage, name)) == SEARCHES
    assert {each.seq for each in beats} == {SEARCHES}
    assert numbers(store) == [SEARCHES] * TRIALS


async def test_threads_at_the_same_moment_lose_nothing(
    stage: Stage, store: Store
) -> None:
    """
    A plain agent's threads save through `run_sync`.
    """

    def play(given: dict[str, Any], ctx: Context) -> None:
        with ThreadPoolExecutor(SEARCHES) as pool:
            saves = [
                pool.submit(lambda: ctx.run_sync(ctx.save({"searched": True})))
                for _ in range(SEARCHES)
            ]
        assert all(save.result() is None for save in saves)
        raise BrokenError

    with pytest.raises(BrokenError):
        await stage.play(play)
    assert numbers(store) == [SEARCHES]


def test_numbers_are_given_under_the_lock(ledger: Ledger) -> None:
    """
    Writers that all believe to have the first number get one each, in the order of
    their writes: the highest is what stands.
    """
    claim = ledger.claim(assignment(), ROLE, 1)
    start = threading.Barrier(SEARCHES)

    def save(number: int) -> tuple[int, int]:
        start.wait(10)
        first = Checkpoint(seq=1, route=ROLE, value=number)
        return ledger.save(claim, first, False).checkpoint.seq, number

    with ThreadPoolExecutor(SEARCHES) as pool:
        saved = dict(pool.map(save, range(SEARCHES)))
    assert sorted(saved) == list(range(1, SEARCHES + 1))
    stands = ledger.resume(claim, ROLE)
    assert stands is not None
    assert stands.value == saved[SEARCHES]


async def test_a_save_whose_caller_was_cancelled_does_not_win(stage: Stage) -> None:
    """
    It may still be written; what was saved after it stands.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        for number in range(SEARCHES):
            early = asyncio.ensure_future(ctx.save({"early": number}))
            await asyncio.sleep(0)
            early.cancel()
            await ctx.save({"late": number})
        raise BrokenError

    with pytest.raises(BrokenError):
        await stage.play(play)
    assert await resumed(stage, "only") == {"late": SEARCHES - 1}


async def test_a_long_conversation_takes_the_room_of_its_last_save(
    tmp_path: Path,
) -> None:
    """
    200 saves of a conversation that grows to 400 KB: what it adds to the store stays
    within twice the last one, while the store is open and after it was closed.
    """
    folder = tmp_path / "store"
    store = Store(folder / "store.db")
    turn = "".join(random.Random(1).choices(string.ascii_letters, k=2_000))

    async def talk(given: dict[str, Any], ctx: Context) -> str:
        said: list[str] = []
        for _ in range(200):
            said.append(turn)
            await ctx.save(said)
        return "talked"

    empty = size(folder)
    with ThreadPoolExecutor() as threads:
        await Stage(Ledger(store), threads).play(talk)
    await store.run(lambda: None)  # behind what the attempt's end has left to do
    open_ = size(folder)
    store.close()
    assert open_ - empty < 800_000
    assert size(folder) < 800_000


def size(folder: Path) -> int:
    """
    Add up the files of a store, but for the index of its log, which is memory.
    """
    files = [each for each in folder.iterdir() if not each.name.endswith("-shm")]
    return sum(each.stat().st_size for each in files)


def test_a_store_runs_what_another_one_has_compiled(
    built_file: Path, tmp_path: Path
) -> None:
    """
    A fork server compiles the statements of an attempt for every worker to come.
    """
    stores = [
        Store(shutil.copy(built_file, tmp_path / name)) for name in ("one", "two")
    ]
    compiled: list[bool] = []

    def count(*given: Any) -> None:
        compiled.append(given[4].cache_hit is not CacheStats.CACHE_HIT)

    Ledger(stores[0]).warm_up()
    database: Any = stores[1]._database
    sa.event.listen(database._connection.engine, "after_cursor_execute", count)
    Ledger(stores[1]).warm_up()
    for store in stores:
        store.close()
    assert compiled
    assert not any(compiled)
