"""
What agents have opened when their worker starts.
"""

import asyncio
from collections.abc import Iterator

import pytest

from outlast import Context, agent, on_worker_start, testing
from outlast.agents import worker_start
from outlast.agents.worker_start import open_all
from outlast.contracts.errors import BadInputError, WorkerStartError


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_start, "_declared", {})


async def test_async_and_plain_are_called_in_their_order() -> None:
    """
    Each sees what the ones before it have opened, on the loop that agents run on.
    """

    @on_worker_start
    async def loop() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    @on_worker_start
    def client() -> str:
        return f"on {loop.value.is_running()}"

    await open_all()
    assert client.value == "on True"
    assert loop.value is asyncio.get_running_loop()


@pytest.mark.parametrize(
    "error", [OSError("refused"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
async def test_an_error_names_the_function_and_its_module(error: BaseException) -> None:
    """
    Whatever was raised; what comes after is not called.
    """

    @on_worker_start
    async def database() -> None:
        raise error

    @on_worker_start
    def never() -> None:
        raise AssertionError

    with pytest.raises(WorkerStartError) as told:
        await open_all()
    said = str(told.value)
    assert "database of test_worker_start failed: " + type(error).__name__ in said
    assert "test_worker_start.py:" in said
    assert "\n" not in said


def test_there_is_no_value_before() -> None:
    """
    At import, for one: it says where to read it instead.
    """

    @on_worker_start
    def client() -> str:
        return "open"

    with pytest.raises(RuntimeError, match=r"client .*read it in an agent"):
        _ = client.value
    assert client() == "open"


def test_what_cannot_be_called_is_refused() -> None:
    """
    At its declaration, not when the first worker starts.
    """
    with pytest.raises(BadInputError, match="no argument, not 'ctx'"):
        on_worker_start(lambda ctx: ctx)

    def yields() -> Iterator[int]:
        yield 1

    with pytest.raises(BadInputError, match="must return, not yield"):
        on_worker_start(yields)


async def test_a_trial_starts_like_a_worker() -> None:
    """
    Each attempt of it stands for a process: after a kill everything is opened anew.
    What a test has set itself is left.
    """
    opened = []

    @on_worker_start
    async def client() -> int:
        opened.append(1)
        return len(opened)

    @on_worker_start
    def other() -> str:
        raise AssertionError

    other.value = "fake"

    @agent("starts")
    async def starts(given: dict[str, int], ctx: Context) -> str:
        if await ctx.resume(int, 0) == 0:
            await ctx.save(1)
        return f"{client.value} {other.value}"

    ended = await testing.run(starts, {}, kill_after=1)
    assert ended.result == "2 fake"
