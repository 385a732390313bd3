"""
One lease: every item once, the failing ones apart, and nothing lost with the process.
"""

import asyncio
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from lease_fakes import BOUND_S, Lender, Shelf, canonical, numbered
from pydantic import BaseModel
from unit_fakes import contents, refused

from outlast.agents.agent import Degraded
from outlast.agents.context import Context
from outlast.contracts.attempts import Heartbeat
from outlast.contracts.errors import GiveUp, ParkedError, StaleAttemptError, TryLater
from outlast.contracts.ids import ItemId
from outlast.contracts.results import FollowUps
from outlast.contracts.retries import Policy
from outlast.contracts.scopes import Scope
from outlast.contracts.sizes import KIB
from outlast.execution.in_flight import MAX_RECORDED_ITEMS
from outlast.execution.item_queue import READ_AHEAD_ITEMS
from outlast.execution.item_workers import MAX_ITEM_WORKERS, MAX_STALLS
from outlast.execution.result_writer import MAX_BUFFERED
from outlast.fleet.recorder_layout import HALF_BYTES
from outlast.fleet.slots import LeaseSlots
from outlast.store.database import Store
from outlast.store.schema import effects
from outlast.telemetry.log_context import logging_attempt

LEASE = "outlast.execution.lease_items"
LANES_OF = "outlast.execution.item_workers"
SOON_S = 0.01

Input = dict[str, Any]


@pytest.fixture
def shelf(store: Store) -> Shelf:
    return Shelf(store)


@pytest.fixture
def lender(shelf: Shelf) -> Iterator[Lender]:
    threads = ThreadPoolExecutor(16)
    yield Lender(shelf, threads)
    threads.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """
    Let what failed be tried again at once; returns the failures that were asked for.
    """
    asked: list[int] = []

    def backoff_s(failures: int) -> float:
        asked.append(failures)
        return SOON_S

    monkeypatch.setattr(f"{LEASE}.backoff_s", backoff_s)
    return asked


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Take for a hang what is quiet for 0.15 s, and for waiting what takes 0.05 s.
    """
    monkeypatch.setattr(f"{LANES_OF}.STALL_FLOOR_S", 0.15)
    monkeypatch.setattr(f"{LANES_OF}.STALL_FACTOR", 0.0)
    monkeypatch.setattr(f"{LANES_OF}.ADD_WORKER_AFTER_S", 0.05)


async def double(given: Input, ctx: Context) -> int:
    return 2 * int(given["n"])


def doubled(*numbers: int) -> dict[int, int]:
    return {number: 2 * number for number in numbers}


class Played:
    """
    An agent that counts its calls and does *special* to some items.
    """

    def __init__(self, **special: Any) -> None:
        self.calls: Counter[int] = Counter()
        self.special = {int(name[1:]): act for name, act in special.items()}

    @property
    def play(self) -> Any:
        async def play(given: Input, ctx: Context) -> Any:
            number = given["n"]
            self.calls[number] += 1
            act = self.special.get(number)
            if act is None:
                return 2 * number
            found = act(ctx)
            return await found if asyncio.iscoroutine(found) else found

        return play


def ill(ctx: Context) -> None:
    raise RuntimeError("ill")


async def for_ever(ctx: Context) -> None:
    await asyncio.Event().wait()


async def test_every_item_is_played_once(lender: Lender) -> None:
    """
    More than are read or written at once, and not a multiple of either.
    """
    most = 2 * max(READ_AHEAD_ITEMS, MAX_BUFFERED) + 7
    lender.fill(numbered(most))
    agent = Played()
    worked = await lender.work(agent.play)
    assert agent.calls == Counter(range(1, most + 1))
    assert lender.shelf.results() == doubled(*range(1, most + 1))
    assert (worked.settled, worked.dead) == (most, 0)
    assert worked.item_s > 0


async def test_what_an_item_logs_carries_its_name(lender: Lender) -> None:
    async def named(item: dict[str, int], _: Context) -> str:
        return str(logging_attempt())

    lender.fill(numbered(3))
    await lender.lent(named).run()

    assert lender.shelf.results() == {
        n: f"{lender.shelf.name}/{ItemId(n)} #1" for n in (1, 2, 3)
    }


async def test_a_lease_keeps_to_its_span(lender: Lender) -> None:
    """
    Items before, behind and left out are somebody else's.
    """
    lender.fill(numbered(20))
    agent = Played()
    worked = await lender.work(agent.play, (5, 12), skip=[7, 9])
    assert set(agent.calls) == {5, 6, 8, 10, 11}
    assert worked.settled == 5


async def test_a_failing_item_is_tried_again_and_then_given_up(
    lender: Lender, soon: list[int]
) -> None:
    """
    As often as the policy says, each time later, while the others go on; the dead
    letter has its cause.
    """
    lender.policy = Policy(failures=4)
    lender.fill(numbered(30))
    agent = Played(_3=ill)
    worked = await lender.work(agent.play)
    assert agent.calls[3] == 4
    assert soon == [1, 2, 3]
    assert (worked.settled, worked.dead) == (30, 1)
    assert set(lender.shelf.results()) == set(range(1, 31)) - {3}
    found = lender.shelf.dead()[3]
    assert found.cause.startswith("RuntimeError: ill (test_lease.py:")
    assert found.failures == 4


async def test_an_item_may_fail_for_a_while(lender: Lender, soon: list[int]) -> None:
    """
    What succeeds in the end is done, and is no dead letter.
    """

    def hiccup(ctx: Context) -> str:
        if agent.calls[2] < 4:
            raise OSError("hiccup")
        return "done"

    lender.fill(numbered(3))
    agent = Played(_2=hiccup)
    worked = await lender.work(agent.play)
    assert lender.shelf.results() == doubled(1, 3) | {2: "done"}
    assert (worked.dead, lender.shelf.dead()) == (0, {})
    assert lender.shelf.batches.failing(lender.shelf.name) == 0


async def test_others_go_on_while_a_failed_item_waits(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The item comes again behind those that were ready.
    """
    monkeypatch.setattr(f"{LEASE}.backoff_s", lambda failures: 0.1)
    seen: list[int] = []

    async def play(given: Input, ctx: Context) -> int:
        seen.append(given["n"])
        if given["n"] == 1 and seen.count(1) == 1:
            raise RuntimeError
        return 0

    lender.fill(numbered(20))
    await lender.work(play)
    assert seen == [*range(1, 21), 1]


@pytest.mark.parametrize("error", [GiveUp("hopeless"), ParkedError("look at it")])
async def test_what_no_attempt_can_mend_is_tried_once(
    lender: Lender, soon: list[int], error: Exception
) -> None:
    """
    A dead letter at once, in the agent's words.
    """

    def refuse(ctx: Context) -> None:
        raise error

    lender.fill(numbered(3))
    agent = Played(_2=refuse)
    await lender.work(agent.play)
    assert agent.calls[2] == 1
    assert lender.shelf.dead()[2].cause == str(error)
    assert soon == []


async def test_an_item_that_does_not_fit_its_agent_is_given_up(lender: Lender) -> None:
    """
    The cause names the field; the agent is never called with it.
    """

    class Order(BaseModel):
        cents: int

    async def play(given: Order, ctx: Context) -> int:
        return given.cents

    lender.fill([{"cents": 1}, {"cents": "many"}, {"cents": 3}])
    await lender.work(play)
    assert lender.shelf.results() == {1: 1, 3: 3}
    assert "cents" in lender.shelf.dead()[2].cause


async def test_a_service_that_asks_for_time_gets_it(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    TryLater's own delay, not the usual back-off.
    """
    monkeypatch.setattr(f"{LEASE}.backoff_s", lambda failures: 3600.0)
    loop, at = asyncio.get_running_loop(), []

    def busy(ctx: Context) -> str:
        at.append(loop.time())
        if len(at) == 1:
            raise TryLater(timedelta(seconds=0.2))
        return "done"

    lender.fill(numbered(3))
    await lender.work(Played(_2=busy).play)
    assert lender.shelf.results()[2] == "done"
    assert 0.2 <= at[1] - at[0] < 2.0


CAP = 64 * KIB

BAD_RESULTS: dict[str, Any] = {
    "over the cap": "é" * (CAP // 2),
    "no JSON": object(),
    "no text": "\ud800",
    "follow-ups": FollowUps(result=1, tasks=[]),
}


@pytest.mark.parametrize("kind", BAD_RESULTS)
async def test_a_result_that_cannot_be_kept_is_a_dead_letter(
    lender: Lender, soon: list[int], kind: str
) -> None:
    """
    At once, for it is paid for; with a cause of its own, and its neighbours are done.
    """
    lender.shelf.store.largest = CAP
    lender.policy = Policy(failures=2)
    lender.fill(numbered(3))
    agent = Played(_2=lambda ctx: BAD_RESULTS[kind])
    await lender.work(agent.play)
    assert lender.shelf.results() == doubled(1, 3)
    assert agent.calls[2] == 1
    assert lender.shelf.dead()[2].cause


async def test_a_lesser_result_says_why(lender: Lender) -> None:
    """
    A degraded item is done, and its reason is kept.
    """
    lender.fill(numbered(1))
    await lender.work(Played(_1=lambda ctx: Degraded("half", "no time")).play)
    kept = list(lender.shelf.outcomes.results(lender.shelf.name))
    assert kept == [(1, '"half"', "no time")]


async def test_an_agent_that_exits_ends_its_item_only(
    lender: Lender, soon: list[int]
) -> None:
    """
    exit() in an agent is a failure like any other.
    """

    def leave(ctx: Context) -> None:
        raise SystemExit(3)

    lender.policy = Policy(failures=2)
    lender.fill(numbered(3))
    await lender.work(Played(_2=leave).play)
    assert lender.shelf.results() == doubled(1, 3)
    assert "exit(3)" in lender.shelf.dead()[2].cause


async def test_a_hanging_item_holds_nobody_up(
    lender: Lender, soon: list[int], impatient: None
) -> None:
    """
    The others are done beside it; it is a dead letter after so many tries, although
    its policy would have waited for a minute.
    """
    lender.beat_s = 0.05
    lender.fill(numbered(20))
    agent = Played(_2=for_ever)
    worked = await lender.work(agent.play)
    assert set(lender.shelf.results()) == set(range(1, 21)) - {2}
    assert agent.calls[2] == MAX_STALLS
    assert "no progress" in lender.shelf.dead()[2].cause
    assert (worked.settled, worked.dead) == (20, 1)


@pytest.mark.parametrize("before", ["failed", "died"])
async def test_what_was_played_in_vain_hangs_but_once_more(
    lender: Lender, soon: list[int], impatient: None, before: str
) -> None:
    """
    An item that hangs does not begin anew with each lease that dies beside a killer.
    """
    lender.beat_s = 0.05
    lender.fill(numbered(5))
    if before == "failed":
        lender.shelf.fail(2, dead=False)
    agent = Played(_2=for_ever)
    await lender.work(agent.play, deaths={2: 1} if before == "died" else {})
    assert agent.calls[2] == 1
    assert "no progress" in lender.shelf.dead()[2].cause


async def test_progress_is_patience(lender: Lender, impatient: None) -> None:
    """
    An item that says something is no hang, however long it takes.
    """

    async def slow(ctx: Context) -> str:
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.6
        while loop.time() < until:
            ctx.emit("still at it")
            await asyncio.sleep(0.01)
        return "done"

    lender.fill(numbered(3))
    agent = Played(_2=slow)
    await lender.work(agent.play)
    assert lender.shelf.results()[2] == "done"
    assert agent.calls[2] == 1


async def test_items_that_all_take_long_are_no_hangs(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where nothing is known yet of what an item takes, the policy's own patience holds:
    an agent that waits 4 s for a model is not taken for one that hangs.
    """
    monkeypatch.setattr(f"{LANES_OF}.STALL_FLOOR_S", 0.1)
    monkeypatch.setattr(f"{LANES_OF}.ADD_WORKER_AFTER_S", 0.05)

    async def slow(given: Input, ctx: Context) -> int:
        await asyncio.sleep(0.4)
        return 2 * int(given["n"])

    lender.beat_s = 0.05
    lender.policy = Policy(stall_s=60.0)
    lender.fill(numbered(4))
    await lender.work(slow)
    assert {n: each.cause for n, each in lender.shelf.dead().items()} == {}
    assert lender.shelf.results() == doubled(1, 2, 3, 4)


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
async def test_a_slow_store_is_no_hang(
    lender: Lender, store: Store, impatient: None
) -> None:
    """
    What waits for the store is not an item: however long another process writes, the
    lease goes on behind it.
    """
    other = sqlite3.connect(store.place, isolation_level=None)
    held_for = 0

    async def play(given: Input, ctx: Context) -> int:
        if given["n"] == 1:
            other.execute("BEGIN IMMEDIATE")
        return 2 * int(given["n"])

    def count(beat: Heartbeat) -> None:
        nonlocal held_for
        held_for += other.in_transaction
        if held_for == 80:
            other.execute("ROLLBACK")

    lender.on_beat = count
    most = 2 * READ_AHEAD_ITEMS
    lender.fill(numbered(most))
    try:
        worked = await lender.work(play)
    finally:
        other.close()
    assert held_for == 80
    assert (worked.settled, worked.dead) == (most, 0)
    assert len(lender.shelf.results()) == most


async def test_lanes_open_while_items_wait_and_no_more_than_allowed(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Items that wait get company, up to the cap.
    """
    monkeypatch.setattr(f"{LANES_OF}.ADD_WORKER_AFTER_S", 0.01)
    go = asyncio.Event()
    now = most = beaten = 0

    async def waits(given: Input, ctx: Context) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1
        return 0

    def count(beat: Heartbeat) -> None:
        nonlocal beaten
        beaten += now == MAX_ITEM_WORKERS
        if beaten > 20:
            go.set()

    lender.on_beat = count
    lender.fill(numbered(5 * MAX_ITEM_WORKERS))
    worked = await lender.work(waits)
    assert most == MAX_ITEM_WORKERS
    assert worked.settled == 5 * MAX_ITEM_WORKERS


async def test_a_lease_that_only_waits_says_so(lender: Lender) -> None:
    """
    Once all that is left of it is in hand for a while, and not as long as there is
    more to play: another lease may have its place then.
    """
    go = asyncio.Event()
    told: list[tuple[bool, int]] = []

    async def slow(ctx: Context) -> int:
        await go.wait()
        return 0

    def tell(waits: bool) -> None:
        told.append((waits, sum(agent.calls.values())))
        room.set_waiting(lent, waits)
        if waits:
            go.set()

    room = LeaseSlots(1)

    lender.fill(numbered(20))
    agent = Played(_2=slow)
    lent = lender.lent(agent.play)
    lent.set_waiting = tell
    async with asyncio.timeout(BOUND_S):
        await lent.run()
    assert {calls for waits, calls in told if waits} == {20}
    assert {calls for waits, calls in told if not waits} >= {2}


async def test_items_that_wait_for_nothing_have_one_lane(lender: Lender) -> None:
    """
    A second one would only add a neighbour to every death.
    """
    now = most = 0

    async def quick(given: Input, ctx: Context) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return 0

    lender.fill(numbered(200))
    await lender.work(quick)
    assert most == 1


async def test_plain_agents_work_in_threads(lender: Lender, soon: list[int]) -> None:
    """
    They save, fail and return like the others, and never on the event loop's thread.
    """
    home = threading.get_ident()
    seen: Counter[int] = Counter()

    def plain(given: Input, ctx: Context) -> int:
        assert threading.get_ident() != home
        seen[given["n"]] += 1
        ctx.run_sync(ctx.save(given["n"]))
        if given["n"] == 2 and seen[2] == 1:
            raise RuntimeError("once")
        return 2 * ctx.run_sync(ctx.resume(int, 0))

    lender.fill(numbered(5))
    await lender.work(plain)
    assert lender.shelf.results() == doubled(1, 2, 3, 4, 5)
    assert seen[2] == 2


async def test_plain_items_that_hang_leave_threads_to_the_others(
    lender: Lender, soon: list[int], impatient: None
) -> None:
    """
    A thread that hangs cannot be ended: the next item gets another one.
    """
    go = threading.Event()

    def plain(given: Input, ctx: Context) -> int:
        if given["n"] > 32:
            go.wait(BOUND_S)
        return 2 * int(given["n"])

    lender.beat_s = 0.05
    lender.fill(numbered(40))
    try:
        await lender.work(plain)
    finally:
        go.set()
    assert set(lender.shelf.dead()) == set(range(33, 41))
    assert lender.shelf.results() == doubled(*range(1, 33))


class Grouped:
    """
    An agent that takes many items at once.
    """

    def __init__(self, bad: int = 0, short: int = 0) -> None:
        self.groups: list[list[int]] = []
        self.bad = bad
        self.short = short

    @property
    def play(self) -> Any:
        async def play(given: list[Input], ctx: Context) -> list[int]:
            numbers = [each["n"] for each in given]
            self.groups.append(numbers)
            if self.bad in numbers:
                raise RuntimeError("bad")
            found = [2 * number for number in numbers]
            return found[:-1] if self.short in numbers else found

        return play


async def test_an_agent_that_takes_many_gets_many(lender: Lender) -> None:
    """
    As many as it says, in order, each once.
    """
    lender.fill(numbered(25))
    agent = Grouped()
    worked = await lender.work(agent.play, batch_size=10)
    assert [len(group) for group in agent.groups] == [10, 10, 5]
    assert lender.shelf.results() == doubled(*range(1, 26))
    assert worked.settled == 25


@pytest.mark.parametrize("fault", [{"bad": 7}, {"short": 7}])
async def test_of_a_group_that_fails_each_is_tried_alone(
    lender: Lender, soon: list[int], fault: dict[str, int]
) -> None:
    """
    Only what fails alone is a failure: its neighbours are done.
    """
    agent = Grouped(**fault)
    lender.policy = Policy(failures=2)
    lender.fill(numbered(20))
    await lender.work(agent.play, batch_size=10)
    assert lender.shelf.results() == doubled(*(set(range(1, 21)) - {7}))
    assert lender.shelf.dead()[7].failures == 2
    alone = [group for group in agent.groups if len(group) == 1]
    assert sorted(alone) == [[n] for n in (1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10)]


async def test_of_a_group_only_the_refused_result_is_a_dead_letter(
    lender: Lender,
) -> None:
    """
    What is too large is refused once, and the others, which are paid for, are kept.
    """
    lender.shelf.store.largest = CAP
    lender.fill(numbered(10))
    groups: list[int] = []

    async def play(given: list[Input], ctx: Context) -> list[Any]:
        groups.append(len(given))
        return ["é" * CAP if each["n"] == 7 else each["n"] * 2 for each in given]

    await lender.work(play, batch_size=10)
    assert groups == [10]
    assert lender.shelf.results() == doubled(*(set(range(1, 11)) - {7}))
    assert "over the cap" in lender.shelf.dead()[7].cause
    assert lender.shelf.dead()[7].failures == 1


@pytest.mark.parametrize("more", [{"deaths": {3: 1}}, {"quarantined": True}])
async def test_after_a_death_a_group_is_played_singly(
    lender: Lender, more: dict[str, Any]
) -> None:
    """
    So that the next one tells which item it was.
    """
    lender.fill(numbered(5))
    agent = Grouped()
    await lender.work(agent.play, batch_size=10, **more)
    assert agent.groups == [[1], [2], [3], [4], [5]]


async def test_what_is_in_hand_is_told_before_it_is_played(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A death is charged to the items that were in hand and to no other.
    """
    monkeypatch.setattr(f"{LANES_OF}.ADD_WORKER_AFTER_S", BOUND_S)
    told: dict[int, list[int]] = {}

    async def play(given: Input, ctx: Context) -> int:
        told[given["n"]] = lender.hand.told[-1]
        await asyncio.sleep(0)
        return 0

    lender.fill(numbered(50))
    await lender.work(play)
    assert told == {number: [number] for number in range(1, 51)}


async def test_all_that_wait_are_in_hand(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With several lanes the death may be anyone's: all of them are told, and the beat
    says the same.
    """
    monkeypatch.setattr(f"{LANES_OF}.ADD_WORKER_AFTER_S", 0.01)
    go = asyncio.Event()
    begun: list[int] = []

    async def waits(given: Input, ctx: Context) -> int:
        begun.append(given["n"])
        assert sorted(lender.hand.told[-1]) == sorted(begun)
        await go.wait()
        return 0

    def look(beat: Heartbeat) -> None:
        if len(begun) == 4 and not go.is_set():
            assert beat.checkpoint.value == begun
            go.set()

    lender.on_beat = look
    lender.fill(numbered(4))
    assert (await lender.work(waits)).settled == 4


async def test_what_is_in_hand_always_fits_the_recorder(lender: Lender) -> None:
    """
    What is too long would not be recorded, and a death would be nobody's.
    """
    lender.fill(numbered(2_000))
    agent = Grouped()
    await lender.work(agent.play, batch_size=2_000)
    assert lender.hand.largest <= HALF_BYTES


async def test_what_is_in_hand_always_fits_a_heartbeat(lender: Lender) -> None:
    """
    A server ends the workflow whose heartbeats are too large.
    """
    beaten = asyncio.Event()
    lender.on_beat = lambda beat: beaten.set() if beat.checkpoint.value else None

    async def play(given: list[Input], ctx: Context) -> list[int]:
        await beaten.wait()
        return [0] * len(given)

    lender.fill(numbered(2_000))
    await lender.work(play, batch_size=2_000)
    told = [each.checkpoint.value for each in lender.beats]
    assert (
        max(len(each) for each in told if isinstance(each, list)) == MAX_RECORDED_ITEMS
    )


async def test_nothing_is_in_hand_once_it_is_done(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While a failed item waits for its next try, a death is not charged to the item
    that was played last.
    """
    monkeypatch.setattr(f"{LEASE}.backoff_s", lambda failures: 0.1)
    seen: list[list[int]] = []

    def look(beat: Heartbeat) -> None:
        if agent.calls[1] == 1 and agent.calls[3] == 1:
            seen.append(lender.hand.told[-1])

    def once(ctx: Context) -> str:
        if agent.calls[1] == 1:
            raise RuntimeError
        return "done"

    lender.on_beat = look
    lender.fill(numbered(3))
    agent = Played(_1=once)
    await lender.work(agent.play)
    # A look may fall into the turn in which an item comes or goes.
    assert seen.count([]) > len(seen) / 2


async def test_a_lease_that_was_lent_before_does_what_is_left(lender: Lender) -> None:
    """
    What is settled is not played again, and failures count on.
    """
    lender.policy = Policy(failures=3)
    lender.fill(numbered(10))
    lender.shelf.settle(1, 2, 3, 9)
    lender.shelf.fail(5, dead=True)
    lender.shelf.fail(6, dead=False)
    agent = Played(_6=ill)
    worked = await lender.work(agent.play)
    assert agent.calls == Counter([4, 6, 7, 8, 10])
    assert (worked.settled, worked.dead) == (5, 1)
    assert lender.shelf.dead()[6].failures == 3


async def test_progress_of_an_item_outlives_its_lease(
    lender: Lender, store: Store
) -> None:
    """
    What it has saved is there in the next lease, and what it has done once is not
    done again.
    """
    acted: list[str] = []
    saved = asyncio.Event()

    async def act(key: str) -> str:
        acted.append(key)
        return "posted"

    async def play(given: Input, ctx: Context) -> list[Any]:
        before = await ctx.resume(list[int], [])
        posted = await ctx.once(f"post:{given['n']}", act, content=None)
        await ctx.save([*before, ctx.attempt])
        saved.set()
        await asyncio.Event().wait()
        return posted

    lender.fill(numbered(2))
    first = asyncio.ensure_future(lender.lent(play).run())
    async with asyncio.timeout(BOUND_S):
        await saved.wait()
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first

    async def again(given: Input, ctx: Context) -> list[Any]:
        before = await ctx.resume(list[int], [])
        return [before, await ctx.once(f"post:{given['n']}", act, content=None)]

    await lender.work(again, deaths={1: 1})
    assert lender.shelf.results() == {1: [[1], "posted"], 2: [[], "posted"]}
    assert acted == [
        "acme~effect~trial~batch~key~post:1",
        "acme~effect~trial~batch~key~post:2",
    ]
    assert len(contents(store)[effects.name]) == 2


async def test_progress_of_an_item_outlives_its_failure(
    lender: Lender, soon: list[int]
) -> None:
    """
    Within one lease: the next try goes on from what was saved.
    """

    async def play(given: Input, ctx: Context) -> int:
        done = await ctx.resume(int, 0)
        await ctx.save(done + 1)
        if done < 2:
            raise RuntimeError("not yet")
        return done

    lender.fill(numbered(2))
    await lender.work(play)
    assert lender.shelf.results() == {1: 2, 2: 2}


async def test_first_saves_of_an_item_at_the_same_moment(lender: Lender) -> None:
    """
    The item is claimed by the first of them, and none is refused.
    """

    async def play(given: Input, ctx: Context) -> int:
        await asyncio.gather(*(ctx.save(number) for number in range(5)))
        return ctx.heartbeat.checkpoint.seq

    lender.fill(numbered(2))
    await lender.work(play)
    assert lender.shelf.results() == {1: 5, 2: 5}


async def test_items_that_save_nothing_cost_no_line(
    lender: Lender, store: Store
) -> None:
    """
    Only the lease itself is in the ledger.
    """
    lender.fill(numbered(10))
    await lender.work(double)
    assert len(contents(store)["fences"]) == 1
    assert contents(store)["checkpoints"] == []


async def test_a_stale_lease_plays_nothing(lender: Lender, store: Store) -> None:
    """
    A later one has its items.
    """
    lender.fill(numbered(3))
    agent = Played()
    stale = lender.lent(agent.play)
    await lender.work(double)
    with pytest.raises(StaleAttemptError):
        await stale.run()
    assert agent.calls == Counter()
    assert refused(store) == ["claim"]


async def test_a_lease_that_is_overtaken_writes_nothing_more(
    lender: Lender, store: Store
) -> None:
    """
    Its results come too late, and it is told so.
    """
    lender.fill(numbered(3))

    async def play(given: Input, ctx: Context) -> str:
        if given["n"] == 1:
            await lender.work(double, (1, 4))
        return "late"

    with pytest.raises(StaleAttemptError):
        await lender.work(play)
    assert lender.shelf.results() == doubled(1, 2, 3)
    assert set(refused(store)) == {"items"}


async def test_an_item_alone_and_the_rest_of_its_lease_are_no_rivals(
    lender: Lender, soon: list[int]
) -> None:
    """
    The first item of a lease may be the suspect: neither lease overtakes the other.
    """
    begun, go = asyncio.Event(), asyncio.Event()

    async def play(given: Input, ctx: Context) -> int:
        if given["n"] == 1:
            begun.set()
            await go.wait()
        return 2 * int(given["n"])

    lender.fill(numbered(8))
    alone = asyncio.ensure_future(
        lender.lent(play, (1, 2), deaths={1: 2}, quarantined=True).run()
    )
    async with asyncio.timeout(BOUND_S):
        await begun.wait()
    rest = await lender.work(play, (1, 9), skip=[1])
    go.set()
    assert rest.settled == 7
    assert (await alone).settled == 1
    assert lender.shelf.results() == doubled(*range(1, 9))


async def test_a_drained_lease_keeps_what_was_done(lender: Lender) -> None:
    """
    Cancelled, it writes what it has before it ends.
    """
    lender.fill(numbered(10))
    begun = asyncio.Event()

    async def play(given: Input, ctx: Context) -> int:
        if given["n"] == 7:
            begun.set()
            await asyncio.Event().wait()
        return 2 * int(given["n"])

    leaving = asyncio.ensure_future(lender.lent(play).run())
    async with asyncio.timeout(BOUND_S):
        await begun.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    assert lender.shelf.results() == doubled(*range(1, 7))
    assert lender.shelf.dead() == {}

    agent = Played()
    await lender.work(agent.play)
    assert set(agent.calls) == {7, 8, 9, 10}


async def test_beats_are_sent_while_trivial_items_run(lender: Lender) -> None:
    """
    Items that never wait hold the event loop no longer than a moment.
    """
    lender.beat_s = 0.001
    most = 5_000
    lender.fill(numbered(most))
    await lender.work(double)
    said = {int(beat.status_message.split()[0]) for beat in lender.beats}
    assert len([settled for settled in said if 0 < settled < most]) >= 3


async def test_results_are_written_while_the_lease_goes_on(
    lender: Lender, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A death costs no more than one batch of writes: what is done is soon in the store.
    """
    monkeypatch.setattr("outlast.execution.result_writer.FLUSH_AFTER_S", 0.01)
    seen = 0

    async def play(given: Input, ctx: Context) -> int:
        nonlocal seen
        await asyncio.sleep(0.002)
        seen = max(seen, len(contents(store)["item_results"]))
        return 0

    lender.fill(numbered(60))
    await lender.work(play)
    assert seen >= 20


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
async def test_others_get_turns_while_items_compute(lender: Lender) -> None:
    """
    What takes ten turns of the loop, as the begin of another lease does, waits for a
    few items that compute and not for a hundred.
    """
    played: list[int] = []

    async def ten_turns() -> int:
        for _ in range(10):
            await asyncio.sleep(0)
        return len(played)

    async def burn(given: Input, ctx: Context) -> int:
        played.append(given["n"])
        if len(played) == 1:
            beside.append(asyncio.ensure_future(ten_turns()))
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        return 2 * int(given["n"])

    beside: list[asyncio.Future[int]] = []
    lender.fill(numbered(200))
    await lender.work(burn)
    assert await beside[0] < 40


async def test_results_are_written_while_all_lanes_wait(lender: Lender) -> None:
    """
    An item that takes long keeps nobody else's result out of the store.
    """
    go = asyncio.Event()

    async def slow(ctx: Context) -> int:
        await go.wait()
        return 0

    def look(beat: Heartbeat) -> None:
        if len(lender.shelf.results()) == 19:
            go.set()

    lender.on_beat = look
    lender.fill(numbered(20))
    agent = Played(_20=slow)
    await lender.work(agent.play)
    assert lender.shelf.results() == doubled(*range(1, 20)) | {20: 0}
    assert agent.calls[20] == 1


@pytest.mark.parametrize("depth", [150, 300, 900])
async def test_an_item_that_no_parser_reads_leaves_its_neighbours_alone(
    lender: Lender, depth: int
) -> None:
    """
    It was taken from the user: it is played or a dead letter, the others are done.
    """
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    lender.fill([{"n": 1}, {"n": 2, "deep": deep}, {"n": 3}])
    await lender.work(double)
    assert {1, 3} <= set(lender.shelf.results())
    assert len(lender.shelf.results()) + len(lender.shelf.dead()) == 3


async def test_half_a_character_leaves_its_neighbours_alone(lender: Lender) -> None:
    """
    JSON may hold what is no text: such an item is played or a dead letter.
    """
    lender.fill([{"n": 1}, {"n": 2, "name": "\ud800"}, {"n": 3}])
    await lender.work(double)
    assert {1, 3} <= set(lender.shelf.results())
    assert len(lender.shelf.results()) + len(lender.shelf.dead()) == 3


async def test_values_reach_the_agent_as_they_were_given(lender: Lender) -> None:
    """
    Big numbers, empty keys, text of every script.
    """
    bodies = [{"": 1}, {"a": 10**40}, {"a": "漢字 🙂"}, {"a": [None, {"b": 0.1}]}]
    got: list[Any] = []

    async def play(given: Input, ctx: Context) -> None:
        got.append(given)

    lender.fill(bodies)
    await lender.work(play)
    assert [json.loads(canonical(each)) for each in got] == bodies


async def test_an_item_of_a_redone_spread_changes_no_effect(store: Store) -> None:
    """
    No person can be asked about one item: it is a dead letter that says why.
    """
    acted: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        for round_, name, content in [
            (1, "m~fanout~t", "old"),
            (2, "m~fanout~t~2", "new"),
        ]:

            async def play(given: Input, ctx: Context, content: str = content) -> None:
                await ctx.once(
                    "pay", lambda _, told: acted.append(told), content=content
                )

            scope = Scope(path="m").within("t", round_)
            shelf = Shelf(store, name, scope=scope)
            lender = Lender(shelf, threads, scope=scope)
            lender.fill(numbered(1))
            await lender.work(play)
    assert acted == ["old"]
    assert "was done by m~fanout~t/item~000000001" in shelf.dead()[1].cause
