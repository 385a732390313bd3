"""
The event loop of a worker outlives what is raised on it.
"""

import asyncio

import pytest

from outlast.process.event_loop import run_until_done


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_task_that_exits_ends_alone(end: BaseException) -> None:
    """
    Its neighbours go on, and who awaits it gets what it raised.
    """
    steps: list[int] = []

    async def neighbour() -> None:
        for step in range(5):
            await asyncio.sleep(0.01)
            steps.append(step)

    async def exits() -> None:
        await asyncio.sleep(0.01)
        raise end

    async def main() -> str:
        beside = asyncio.create_task(neighbour())
        with pytest.raises(type(end)):
            async with asyncio.TaskGroup() as group:
                group.create_task(exits())
        await asyncio.gather(
            beside, asyncio.create_task(exits()), return_exceptions=True
        )
        await beside
        return "done"

    assert run_until_done(main()) == "done"
    assert steps == [0, 1, 2, 3, 4]


def test_callbacks_and_stops_do_not_end_it_either() -> None:
    """
    Nor does an agent that stops the loop.
    """

    def exits() -> None:
        raise SystemExit(1)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(exits)
        await asyncio.sleep(0.01)
        loop.stop()
        await asyncio.sleep(0.01)
        return "done"

    assert run_until_done(main()) == "done"


@pytest.mark.parametrize("end", [SystemExit(3), ValueError("ours")], ids=repr)
def test_what_the_main_coroutine_raises_is_raised(end: BaseException) -> None:
    """
    It is ours, and ends the process.
    """

    async def main() -> None:
        raise end

    with pytest.raises(type(end)):
        run_until_done(main())


def test_a_task_that_swallows_its_cancellation_holds_no_end_up() -> None:
    """
    The process is about to end, and takes it along.
    """

    async def swallows() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def main() -> str:
        main.task = asyncio.create_task(swallows())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return "done"

    assert run_until_done(main()) == "done"
