"""
A call of the context that nobody awaits ends the attempt, and what an agent's call
returns is taken for what it is.
"""

import asyncio
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lease_fakes import Lender, Shelf
from unit_fakes import Stage, told_in_one_sentence

from outlast import Context, GiveUp
from outlast.contracts.errors import UnawaitedError
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store


@pytest.fixture
def stage(store: Store) -> Iterator[Stage]:
    with ThreadPoolExecutor() as threads:
        yield Stage(Ledger(store), threads)


async def saves_in_vain(given: Any, ctx: Context) -> str:
    ctx.save(1)  # type: ignore[unused-coroutine]
    return "done"


def saves_in_vain_plainly(given: Any, ctx: Context) -> str:
    ctx.save(1)  # type: ignore[unused-coroutine]
    return "done"


async def acts_in_vain(given: Any, ctx: Context) -> str:
    await ctx.save(1)
    ctx.once("mail", lambda key: None, content=None)  # type: ignore[unused-coroutine]
    return "done"


async def counts_in_vain(given: Any, ctx: Context) -> str:
    keep = ctx.record_usage(tokens=3)
    await asyncio.sleep(0)
    return f"done {keep is None}"


@pytest.mark.parametrize(
    ("play", "call"),
    [
        (saves_in_vain, "save"),
        (saves_in_vain_plainly, "save"),
        (acts_in_vain, "once"),
        (counts_in_vain, "record_usage"),
    ],
)
async def test_a_forgotten_await_ends_the_attempt(
    stage: Stage, play: Callable[..., Any], call: str
) -> None:
    """
    For good: no attempt more would await it. The line of the call is named.
    """
    with pytest.raises(UnawaitedError) as refused:
        await stage.play(play)
    text = told_in_one_sentence(refused.value)
    assert f"ctx.{call}(...) was never awaited" in text
    code = play.__code__  # type: ignore[attr-defined]
    lines = range(code.co_firstlineno, code.co_firstlineno + 4)
    assert any(f"test_pending_calls.py:{line})" in text for line in lines)
    assert f"`await ctx.{call}(...)`" in text


async def gathers(given: Any, ctx: Context) -> str:
    await asyncio.gather(*(ctx.save(n) for n in range(100)))
    return "done"


async def makes_tasks(given: Any, ctx: Context) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.save(1))
        group.create_task(ctx.save(2))
    await asyncio.wait_for(ctx.save(3), 5)
    await asyncio.shield(ctx.save(4))
    return "done"


async def awaits_late(given: Any, ctx: Context) -> str:
    later = ctx.save(1)
    for n in range(200):
        await ctx.save(n)
    await later
    return "done"


def in_threads(given: Any, ctx: Context) -> str:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: ctx.run_sync(ctx.save(n)), range(50)))
    return "done"


async def cancels_unstarted(given: Any, ctx: Context) -> str:
    task = asyncio.create_task(ctx.save(1))
    task.cancel()
    await asyncio.wait([task])
    return "done"


async def leaves_a_task(given: Any, ctx: Context) -> str:
    ctx.task = asyncio.create_task(ctx.save(1))  # type: ignore[attr-defined]
    return "done"


@pytest.mark.parametrize(
    "play",
    [gathers, makes_tasks, awaits_late, in_threads, cancels_unstarted, leaves_a_task],
)
async def test_what_is_awaited_somehow_is_fine(
    stage: Stage, play: Callable[..., Any]
) -> None:
    """
    However asyncio is asked to run it.
    """
    await stage.play(play)
    assert stage.result() == "done"


async def test_the_agents_own_error_comes_first(stage: Stage) -> None:
    """
    What was left unawaited by it is no second fault.
    """

    async def fails(given: Any, ctx: Context) -> None:
        kept = ctx.save(1)
        try:
            raise ValueError("mine")
        finally:
            kept.close()

    with pytest.raises(ValueError, match="mine"):
        await stage.play(fails)


async def test_few_promises_are_kept(stage: Stage) -> None:
    """
    An attempt that saves for ever keeps none of what it has saved.
    """
    seen: list[int] = []

    async def saves(given: Any, ctx: Context) -> None:
        for n in range(300):
            await ctx.save(n)
            seen.append(len(ctx.pending_calls._made))

    await stage.play(saves)
    assert max(seen) <= 33


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def simple(given: Any, ctx: Context) -> str:
    await ctx.save(1)
    return "done"


class Crew:
    async def __call__(self, given: Any, ctx: Context) -> str:
        return await simple(given, ctx)


async def with_model(model: str, given: Any, ctx: Context) -> str:
    return await simple(given, ctx)


async def returns_a_coroutine(given: Any, ctx: Context) -> Any:
    return simple(given, ctx)


PLAYED: dict[str, Callable[..., Any]] = {
    "wrapped": traced(simple),
    "partial": functools.partial(with_model, "small"),
    "object": Crew(),
    "lambda": lambda given, ctx: with_model("small", given, ctx),
    "an await forgotten in a decorator": returns_a_coroutine,
}


@pytest.mark.parametrize("name", PLAYED)
async def test_a_coroutine_that_a_call_returns_is_awaited(
    stage: Stage, name: str
) -> None:
    """
    Also where nothing told before that it is async.
    """
    await stage.play(PLAYED[name])
    assert stage.result() == "done"


async def test_a_generator_that_a_call_returns_ends_the_attempt(stage: Stage) -> None:
    """
    At once, where it could not be told when the module was loaded.
    """
    with pytest.raises(GiveUp, match="it returned generator"):
        await stage.play(lambda given, ctx: (n for n in range(3)))


async def test_items_have_the_same_rule(store: Store) -> None:
    """
    The item is a dead letter, and its neighbours are done.
    """

    async def second_forgets(given: dict[str, int], ctx: Context) -> int:
        if given["n"] == 2:
            ctx.save(1)  # type: ignore[unused-coroutine]
        return given["n"]

    shelf = Shelf(store)
    shelf.add(*({"n": n} for n in (1, 2, 3)))
    with ThreadPoolExecutor() as threads:
        await Lender(shelf, threads).work(second_forgets)
    assert set(shelf.results()) == {1, 3}
    assert "ctx.save(...) was never awaited" in str(shelf.dead()[2].cause)
