"""
Room for leases: as many at work as are allowed, and a few more that only wait.
"""

import asyncio
from typing import Any, cast

from outlast.fleet.slots import MAX_WAITING_LEASES, LeaseSlots

NO_CONTEXT = cast(Any, None)


async def taken(room: LeaseSlots) -> "asyncio.Task[Any]":
    """
    Ask for a place, and let what is free be given.
    """
    asked = asyncio.create_task(room.reserve_slot(NO_CONTEXT))
    await asyncio.sleep(0)
    return asked


async def turned() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_no_more_leases_are_at_work_than_there_are_places() -> None:
    """
    The next poll waits until one has ended.
    """
    room = LeaseSlots(2)
    assert (await taken(room)).done()
    assert (await taken(room)).done()
    third = await taken(room)
    assert not third.done()

    room.release_slot(NO_CONTEXT)
    await turned()
    assert third.done()


async def test_a_lease_that_only_waits_leaves_its_place() -> None:
    """
    And takes no other one's when it goes on.
    """
    room = LeaseSlots(1)
    await taken(room)
    second = await taken(room)
    assert not second.done()

    room.set_waiting("first", waits=True)
    await turned()
    assert second.done()
    room.set_waiting("first", waits=False)
    room.release_slot(NO_CONTEXT)
    await turned()
    third = await taken(room)
    assert not third.done()
    third.cancel()


async def test_a_bounded_number_of_leases_waits() -> None:
    """
    Since a death is charged to all that they have in hand.
    """
    room = LeaseSlots(1)
    for number in range(2 * MAX_WAITING_LEASES):
        room.set_waiting(number, waits=True)
    asked = [await taken(room) for _ in range(2 * MAX_WAITING_LEASES)]
    assert sum(each.done() for each in asked) == 1 + MAX_WAITING_LEASES
    for each in asked:
        each.cancel()


async def test_what_ends_as_it_waits_is_forgotten() -> None:
    """
    However often it is told: the places are as many as before.
    """
    room = LeaseSlots(1)
    for _ in range(2):
        await taken(room)
        room.set_waiting("same", waits=True)
        room.set_waiting("same", waits=True)
        room.set_waiting("same", waits=False)
        room.set_waiting("same", waits=False)
        room.release_slot(NO_CONTEXT)
        await turned()
    assert (await taken(room)).done()
    second = await taken(room)
    assert not second.done()
    second.cancel()
