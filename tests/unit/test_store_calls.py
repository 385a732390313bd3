"""
Calls of a store that is away, slow or lost.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import outlast.store.calls
from outlast.contracts.errors import StoreError, StoreLostError, StoreUnavailableError
from outlast.store.calls import (
    MAX_STORE_RETRY_S,
    STORE_RETRY_S,
    StoreCall,
    StoreCalls,
    retry_after_s,
)
from outlast.store.outages import UNKNOWN_OUTAGE_S


class Desk:
    """
    A store whose calls are carried out when the test says so.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.lost: list[str] = []
        self.asked: list[tuple[Callable[[], Any], Future[Any]]] = []
        self.calls = StoreCalls(
            "here",
            self._submit,
            lambda error: self.lost.append(str(error)),
            lambda: self.now,
        )

    def _submit(self, act: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append((act, future))
        return future

    def begin(self, act: Callable[[], Any] = lambda: "done") -> asyncio.Future[Any]:
        return StoreCall(act, self.calls).future

    def keep(self) -> StoreCall:
        return StoreCall(lambda: "done", self.calls, kept=True)

    async def answer(self, error: Exception | None = None) -> None:
        """
        Carry out the oldest call that was asked for, or have it end by *error*.
        """
        for _ in range(100):
            await asyncio.sleep(0)
            if self.asked:
                break
        if not self.asked:
            return  # nobody asks for anything
        act, future = self.asked.pop(0)
        if future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(act())
            else:
                future.set_exception(error)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(outlast.store.calls, "STORE_RETRY_S", 0.0)
    return Desk()


AWAY = StoreUnavailableError("disk full")


async def test_a_call_is_made_again_until_it_is_answered(desk: Desk) -> None:
    """
    Who waits for it hears nothing of that; the trouble is over with the answer.
    """
    call = desk.begin()
    for _ in range(3):
        await desk.answer(AWAY)
    trouble = desk.calls.trouble
    assert trouble is not None
    assert trouble.text == "disk full"
    assert desk.calls.is_waiting
    await desk.answer()
    assert await call == "done"
    assert desk.calls.trouble is None
    assert not desk.calls.is_waiting


async def test_the_trouble_is_as_old_as_its_first_call(desk: Desk) -> None:
    """
    Calls come and go; since when is said of the store, not of them.
    """
    first, second = desk.begin(), desk.begin()
    await desk.answer(AWAY)
    since = desk.calls.trouble
    await desk.answer(StoreUnavailableError("disk still full"))
    first.cancel()
    await asyncio.sleep(0)
    now = desk.calls.trouble
    assert since is not None
    assert now is not None
    assert now.since == since.since
    second.cancel()


async def test_a_call_that_nobody_waits_for_is_not_made_again(desk: Desk) -> None:
    """
    It was cancelled while it waited for its next try.
    """
    done: list[int] = []
    call = desk.begin(lambda: done.append(1))
    await desk.answer(AWAY)
    call.cancel()
    await desk.answer()
    assert done == []
    assert not desk.calls.running


@pytest.mark.parametrize("before", [True, False])
async def test_a_call_that_is_kept_is_made_whoever_is_cancelled(
    desk: Desk, before: bool
) -> None:
    """
    And who waits for its end, to go on in turn, hears of it.
    """
    call, heard = desk.keep(), asyncio.Event()
    await desk.answer(AWAY)
    call.future.cancel()
    if before:
        call.then(heard.set)
    await desk.answer()
    if not before:
        call.then(heard.set)
    assert heard.is_set()
    assert not desk.calls.running


async def test_what_is_refused_is_not_waited_for(desk: Desk) -> None:
    """
    The store has answered: the failure is of who has asked.
    """
    call = desk.begin()
    await desk.answer(StoreError("too large"))
    with pytest.raises(StoreError, match="too large"):
        await call
    assert desk.calls.trouble is None


async def test_a_lost_store_is_told_at_once(desk: Desk) -> None:
    """
    To who waits, and to who stops the fleet.
    """
    call = desk.begin()
    await desk.answer(StoreLostError("corrupt"))
    with pytest.raises(StoreLostError):
        await call
    assert desk.lost == ["corrupt"]


@pytest.mark.parametrize("back", [True, False])
async def test_a_doubt_is_waited_out(desk: Desk, back: bool) -> None:
    """
    Whoever swaps databases has a while; then the store is lost.
    """
    gone = StoreUnavailableError("no such table", maybe_written=True)
    call = desk.begin()
    await desk.answer(gone)
    desk.now += UNKNOWN_OUTAGE_S - 1
    await desk.answer(gone)
    assert desk.lost == []
    if back:
        await desk.answer()
        assert await call == "done"
        return
    desk.now += 2
    await desk.answer(gone)
    with pytest.raises(StoreLostError):
        await call
    assert desk.lost == ["no such table"]


async def test_a_store_that_does_not_answer_is_waited_for_too(desk: Desk) -> None:
    """
    A lock or a frozen disk raises nothing: attempts are excused after a second, and
    people see it after five.
    """
    call = desk.begin()
    assert not desk.calls.is_waiting
    desk.now += 1.5
    assert desk.calls.is_waiting
    assert desk.calls.trouble is None
    desk.now += 4
    assert desk.calls.trouble is not None
    await desk.answer()
    await call
    assert not desk.calls.is_waiting


def test_the_pauses_grow_and_are_bounded() -> None:
    """
    A poor store is asked ever more seldom, and used soon after it is back.
    """
    pauses = [retry_after_s(tries) for tries in range(40)]
    assert pauses[0] <= STORE_RETRY_S
    assert max(pauses) <= MAX_STORE_RETRY_S
    assert min(pauses[10:]) >= MAX_STORE_RETRY_S * 0.8
