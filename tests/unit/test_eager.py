"""
What starts at once runs as it would in a task made for it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from outlast.execution.eager import EagerStarter, Step

whose: ContextVar[str] = ContextVar("whose", default="")
customer: ContextVar[str] = ContextVar("customer", default="")
odd: ContextVar[Any] = ContextVar("odd", default=None)


@pytest.fixture
async def starter() -> AsyncIterator[EagerStarter]:
    made = EagerStarter()
    yield made
    made.close()


async def ends(starter: EagerStarter, act: Callable[[], Awaitable[Any]]) -> Any:
    """
    Start *act* and wait for its end; returns what it returned or raised, and its task.
    """
    told: list[Any] = []

    async def step() -> None:
        try:
            told.append(await act())
        except BaseException as error:
            told.append(error)

    task = await begins(starter, step)
    if task is not None:
        await asyncio.wait([task])
    return told[0], task


async def begins(starter: EagerStarter, step: Callable[[], Step]) -> Any:
    if not starter.is_ready:
        await starter.prepare()
    return starter.start(step(), lambda: None)


async def test_what_never_waits_needs_no_task(starter: EagerStarter) -> None:
    async def act() -> Any:
        return asyncio.current_task()

    first, nothing = await ends(starter, act)
    second, _ = await ends(starter, act)

    assert nothing is None
    assert first is second is not asyncio.current_task()


async def test_what_waits_stays_in_the_task_in_which_it_began(
    starter: EagerStarter,
) -> None:
    async def act() -> Any:
        began = asyncio.current_task()
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return began is asyncio.current_task()

    told, task = await ends(starter, act)

    assert told is True
    assert task is not None
    assert task is not asyncio.current_task()


async def test_a_time_limit_that_begins_before_the_first_wait_ends_it(
    starter: EagerStarter,
) -> None:
    """
    The limit cancels the current task: were it ours, we would be cancelled.
    """

    async def act() -> Any:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    told, _ = await ends(starter, act)

    assert isinstance(told, TimeoutError)


async def test_tasks_of_a_group_made_before_the_first_wait_are_awaited(
    starter: EagerStarter,
) -> None:
    async def act() -> Any:
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(asyncio.sleep(0, each)) for each in (1, 2)]
        return [each.result() for each in made]

    told, _ = await ends(starter, act)

    assert told == [1, 2]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_cancels_itself_is_cancelled_and_nobody_else(
    starter: EagerStarter, waits: bool
) -> None:
    """
    Also where it ends before its cancellation can reach it: the next one must not be
    cancelled in its place.
    """

    async def cancelled() -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if waits:
            await asyncio.sleep(60)
        return "ended"

    async def innocent() -> Any:
        await asyncio.sleep(0.001)
        return "innocent"

    told, _ = await ends(starter, cancelled)

    assert isinstance(told, asyncio.CancelledError) if waits else told == "ended"
    assert (await ends(starter, innocent))[0] == "innocent"


async def test_a_cancellation_before_its_task_goes_on_reaches_what_it_waits_for(
    starter: EagerStarter,
) -> None:
    waited: list[asyncio.Future[None]] = []

    async def step() -> None:
        waited.append(asyncio.get_running_loop().create_future())
        await waited[0]

    task = await begins(starter, step)
    assert task is not None
    task.cancel()
    await asyncio.wait([task])

    assert waited[0].cancelled()
    assert task.cancelled()


async def test_context_variables_come_from_who_starts_it_and_stay_its_own(
    starter: EagerStarter,
) -> None:
    async def act() -> Any:
        found = whose.get()
        whose.set(f"{found} and mine")
        return found

    whose.set("first")
    assert (await ends(starter, act))[0] == "first"
    assert whose.get() == "first"
    whose.set("second")
    assert (await ends(starter, act))[0] == "second"


async def test_a_start_that_is_cancelled_begins_nothing(starter: EagerStarter) -> None:
    began: list[int] = []

    async def step() -> None:
        began.append(1)

    starting = asyncio.ensure_future(begins(starter, step))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert began == []


async def test_a_context_variable_that_its_starter_lacks_does_not_reach_the_next(
    starter: EagerStarter,
) -> None:
    """
    What one customer's item has set must not be seen by another's.
    """

    async def act() -> Any:
        found = customer.get()
        customer.set("mine")
        return found

    assert (await ends(starter, act))[0] == ""
    assert (await ends(starter, act))[0] == ""


async def test_what_its_starter_has_set_since_is_seen(starter: EagerStarter) -> None:
    """
    Also where nothing that ran before has left a trace.
    """

    async def act() -> Any:
        return whose.get()

    whose.set("first")
    assert (await ends(starter, act))[0] == "first"
    whose.set("second")
    assert (await ends(starter, act))[0] == "second"


async def test_a_value_that_cannot_be_compared_reaches_no_other(
    starter: EagerStarter,
) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    first, second = Odd(), Odd()
    odd.set(first)

    async def act() -> Any:
        found = odd.get()
        odd.set(second)
        return found

    assert (await ends(starter, act))[0] is first
    assert (await ends(starter, act))[0] is first


async def test_what_is_set_on_entering_is_in_what_it_starts_and_in_no_other(
    starter: EagerStarter,
) -> None:
    async def named(name: str) -> Any:
        async def step() -> None:
            seen.append(whose.get())

        if not starter.is_ready:
            await starter.prepare()
        starter.start(step(), lambda: whose.set(name))

    seen: list[str] = []
    await named("one")
    await named("two")

    assert seen == ["one", "two"]
    assert whose.get() == ""
