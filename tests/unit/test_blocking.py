"""
Blocking code in agents: what runs in a thread, and what is awaited from one.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from unit_fakes import MISSION, TENANT, Stage

from outlast.agents.context import Context
from outlast.execution.threads import in_thread
from outlast.ledger.ledger import Ledger

BOUND_S = 5.0

asked_by: contextvars.ContextVar[str] = contextvars.ContextVar("asked_by")


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(4) as threads:
        yield Stage(ledger, threads)


def acting(act: Callable[..., Any], *, plain: bool) -> Callable[..., Any]:
    """
    Make an agent, plain or async, that does *act* once and returns what came of it.
    """

    async def acts(given: dict[str, Any], ctx: Context) -> Any:
        return await ctx.once("k", act, content=None)

    def acts_plainly(given: dict[str, Any], ctx: Context) -> Any:
        return ctx.run_sync(ctx.once("k", act, content=None))

    return acts_plainly if plain else acts


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_blocking_act_does_not_stop_the_heartbeats(
    stage: Stage, plain: bool
) -> None:
    """
    A plain act, as of a blocking client, is called in a thread, for async agents too:
    the loop's heartbeats are those of all its neighbours.
    """
    beaten = threading.Event()

    def act(key: str) -> bool:
        stage.on_beat = lambda beat: beaten.set()
        return beaten.wait(BOUND_S)

    await stage.play(acting(act, plain=plain))
    assert stage.result() is True


class Pay:
    """
    An act that is an object whose call is async.
    """

    async def __call__(self, key: str) -> str:
        return await pay(key)


async def pay(key: str) -> str:
    asyncio.get_running_loop()
    return key


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
@pytest.mark.parametrize(
    "act", [pay, lambda key: pay(f"{key}"), Pay()], ids=["async", "lambda", "object"]
)
async def test_an_act_that_returns_an_awaitable_is_awaited_on_the_loop(
    stage: Stage, act: Callable[..., Any], plain: bool
) -> None:
    """
    Also where a plain function has made it: an effect never begun is not applied.
    """
    await stage.play(acting(act, plain=plain))
    assert stage.result() == f"{TENANT}~effect~{MISSION}~key~k"


async def test_a_plain_act_that_wants_the_loop_is_told_so(stage: Stage) -> None:
    """
    A lambda that makes tasks has no event loop in its thread.
    """

    def act(key: str) -> Any:
        return asyncio.get_running_loop().create_task(pay(key))

    with pytest.raises(RuntimeError, match="make it `async def`"):
        await stage.play(acting(act, plain=False))


async def test_an_act_in_a_thread_knows_its_context() -> None:
    """
    Spans that begin in an act are below those of its attempt.
    """
    asked_by.set("the attempt")
    assert await in_thread(asked_by.get) == "the attempt"


async def test_acts_that_hang_hold_up_no_other() -> None:
    """
    There is no pool to use up: fifty hang, and the next one is called at once.
    """
    go_on = threading.Event()
    hanging = [asyncio.ensure_future(in_thread(go_on.wait, BOUND_S)) for _ in range(50)]
    try:
        async with asyncio.timeout(BOUND_S / 2):
            assert await in_thread(lambda: "called") == "called"
    finally:
        go_on.set()
        await asyncio.gather(*hanging)


async def test_the_result_of_a_cancelled_act_is_dropped() -> None:
    """
    What its thread returns late is neither logged nor raised anywhere.
    """
    go_on, loop = threading.Event(), asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    acting = asyncio.ensure_future(in_thread(go_on.wait, BOUND_S))
    await asyncio.sleep(0)
    acting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acting
    go_on.set()
    await in_thread(time.sleep, 0.01)
    assert told == []


async def test_run_sync_refuses_the_loops_own_thread(stage: Stage) -> None:
    """
    There it would wait for itself for ever.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        ctx.run_sync(ctx.save("x"))

    with pytest.raises(RuntimeError, match=r"own thread.*await it instead"):
        await asyncio.wait_for(stage.play(play), BOUND_S)


async def test_a_sync_tool_of_an_async_agent_may_run_sync(stage: Stage) -> None:
    """
    Async frameworks call plain tools in threads, some with a loop of their own.
    """

    def tool(ctx: Context) -> Any:
        ctx.run_sync(ctx.save({"step": 1}))
        return ctx.run_sync(ctx.once("k", lambda key: key, content=None))

    async def within(ctx: Context) -> Any:
        return tool(ctx)

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        first = await asyncio.to_thread(tool, ctx)
        again = await asyncio.to_thread(lambda: asyncio.run(within(ctx)))
        return [first, again]

    await asyncio.wait_for(stage.play(play), BOUND_S)
    assert stage.result() == [f"{TENANT}~effect~{MISSION}~key~k"] * 2


async def test_an_act_may_run_sync(stage: Stage) -> None:
    """
    A plain act runs in a thread, and may save before it goes on.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        def act(key: str) -> str:
            ctx.run_sync(ctx.save({"asked": key}))
            return "done"

        return await ctx.once("k", act, content=None)

    await asyncio.wait_for(stage.play(play), BOUND_S)
    assert stage.result() == "done"
