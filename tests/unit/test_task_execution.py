"""
How many attempts a process takes at a time.
"""

import asyncio
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError

from outlast.contracts.failures import FailureType
from outlast.fleet.slots import ExclusiveSlot

NOTHING = cast(Any, None)


class Played:
    """
    What a worker plays; it ends when it may.
    """

    def __init__(self) -> None:
        self.ends = asyncio.Event()
        self.began = 0

    async def execute_activity(self, _: Any) -> str:
        self.began += 1
        await self.ends.wait()
        return "played"


async def begun(turn: ExclusiveSlot, play: Played) -> "asyncio.Task[Any]":
    taking = turn.intercept_activity(cast(Any, play))
    task = asyncio.ensure_future(taking.execute_activity(NOTHING))
    await asyncio.sleep(0)
    return task


async def polls(turn: ExclusiveSlot) -> bool:
    """
    Whether a worker would poll now.
    """
    asked = asyncio.ensure_future(turn.reserve_slot(NOTHING))
    await asyncio.sleep(0)
    asked.cancel()
    return asked.done()


@pytest.mark.parametrize("places", [1, 2])
async def test_no_more_attempts_are_played_than_there_are_places(places: int) -> None:
    """
    One too many, which a poll under way has brought, is handed on uncounted; when one
    ends there is room again.
    """
    turn, play = ExclusiveSlot(places), Played()
    assert await polls(turn)
    running = [await begun(turn, play) for _ in range(places)]
    assert not await polls(turn)
    with pytest.raises(ApplicationError) as refused:
        await (await begun(turn, play))
    assert refused.value.type == FailureType.DRAINED
    assert refused.value.non_retryable
    assert play.began == places
    play.ends.set()
    assert await asyncio.gather(*running) == ["played"] * places
    assert await polls(turn)


async def test_a_process_of_ones_own_plays_one_attempt_in_all() -> None:
    """
    Its only place is never free again, and its end is known.
    """
    turn, play = ExclusiveSlot(once=True), Played()
    first = await begun(turn, play)
    assert not turn.used.is_set()
    play.ends.set()
    await first
    assert turn.used.is_set()
    assert not await polls(turn)
    with pytest.raises(ApplicationError):
        await (await begun(turn, play))


async def test_without_places_nothing_is_polled_for() -> None:
    """
    Such a worker only shows that somebody plays the role.
    """
    assert not await polls(ExclusiveSlot(places=0))
