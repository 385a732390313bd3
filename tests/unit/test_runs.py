"""
Which run of a workflow may claim: the server's current one, by compare-and-set.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from lease_fakes import Lender, Shelf
from temporalio.service import RPCStatusCode
from unit_fakes import (
    MISSION,
    ROLE,
    Described,
    RunClient,
    answer,
    assignment,
    refused,
)

from outlast.contracts.batches import pool_task
from outlast.contracts.errors import StaleAttemptError
from outlast.execution.run_order import current_run, in_run_order
from outlast.ledger.attempt_order import ATTEMPT_BITS, DISPATCHES, AttemptOrder
from outlast.ledger.claim import Claim
from outlast.ledger.ledger import Ledger
from outlast.ledger.retention import delete_batch
from outlast.store.database import Store
from outlast.store.schema import fences, runs

BOUND_S = 30.0


@dataclass
class Server:
    """
    The server as it is asked for one workflow's current run.
    """

    now: str | None = "first"
    asked: int = 0
    after_look: Callable[[], Awaitable[None]] | None = None

    async def current_run(self) -> str | None:
        self.asked += 1
        found = self.now
        if self.after_look is not None:
            then, self.after_look = self.after_look, None
            await then()
        return found

    def order(self, run: str, dispatch: int = 1, attempt: int = 1) -> AttemptOrder:
        return AttemptOrder(run, dispatch, attempt, self.current_run)


async def claimed(ledger: Ledger, order: AttemptOrder, name: str = "only") -> Claim:
    """
    Claim a task as an attempt does.
    """
    asked = assignment().model_copy(update={"task": pool_task(name, ROLE)})
    return await in_run_order(
        ledger, order, MISSION, lambda: ledger.claim(asked, ROLE, order)
    )


def numbered(store: Store, mission: str = MISSION) -> list[str]:
    """
    List the runs by their numbers, which must be 1, 2, 3.
    """
    query = sa.select(runs.c.number, runs.c.run).where(runs.c.mission == mission)
    with store.read() as connection:
        found = connection.execute(query.order_by(runs.c.number)).all()
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    return [each.run for each in found]


async def test_the_server_is_asked_once_for_a_run(ledger: Ledger, store: Store) -> None:
    """
    Not for each attempt: the ledger knows the run from then on.
    """
    server = Server()
    for dispatch, name in enumerate("abcab", 1):
        await claimed(ledger, server.order("first", dispatch), name)
    assert server.asked == 1
    assert numbered(store) == ["first"]


async def test_a_new_run_comes_after_the_old_one(ledger: Ledger, store: Store) -> None:
    """
    A reset takes the dispatch number back; the attempts of the new run come later all
    the same, and those of the old one are refused.
    """
    server = Server()
    old = await claimed(ledger, server.order("first", 57, 9))
    server.now = "second"
    new = await claimed(ledger, server.order("second", 3))
    assert new.fence > old.fence
    with pytest.raises(StaleAttemptError):
        ledger.record(old, answer(), "old")
    with pytest.raises(StaleAttemptError, match="later run"):
        await claimed(ledger, server.order("first", 58))
    ledger.record(new, answer(), "new")
    assert numbered(store) == ["first", "second"]


async def test_a_late_attempt_of_an_old_run_that_never_claimed_is_refused(
    ledger: Ledger, store: Store
) -> None:
    """
    The ledger has never seen its run: without the server it would look like a new one.
    """
    server = Server(now="second")
    new = await claimed(ledger, server.order("second"))
    with pytest.raises(StaleAttemptError, match="later run"):
        await claimed(ledger, server.order("first", 99))
    ledger.record(new, answer(), "new")
    assert numbered(store) == ["second"]
    assert refused(store) == []


async def test_an_answer_from_before_a_reset_admits_nothing(
    ledger: Ledger, store: Store
) -> None:
    """
    The zombie has asked while its run was the current one, and was frozen; meanwhile
    the workflow was reset and the new run has claimed.
    """
    server = Server()

    async def reset() -> None:
        server.now = "second"
        await claimed(ledger, server.order("second"))

    server.after_look = reset
    with pytest.raises(StaleAttemptError, match="later run"):
        await claimed(ledger, server.order("first", 99))
    assert server.asked == 3  # the zombie, the new run, and the zombie again
    assert numbered(store) == ["second"]


async def test_two_attempts_of_a_run_number_it_once(
    ledger: Ledger, store: Store
) -> None:
    """
    Both see it first at the same moment.
    """
    server = Server()

    async def other() -> None:
        await claimed(ledger, server.order("first", 2), "b")

    server.after_look = other
    await claimed(ledger, server.order("first", 1), "a")
    assert numbered(store) == ["first"]


@pytest.mark.parametrize("now", [None, "another"])
async def test_nobody_waits_for_an_attempt_of_a_workflow_that_is_gone(
    ledger: Ledger, store: Store, now: str | None
) -> None:
    """
    It was deleted, terminated, or has another run by now: nothing is begun for it.
    """
    server = Server(now=now)
    with pytest.raises(StaleAttemptError):
        await claimed(ledger, server.order("first"))
    assert numbered(store) == []


async def test_a_server_restored_from_a_backup_has_an_old_run_again(
    ledger: Ledger, store: Store
) -> None:
    """
    The run that the ledger knows as an old one is the current one: it gets a number
    anew and goes on.
    """
    server = Server()
    await claimed(ledger, server.order("first", 5))
    server.now = "second"
    lost = await claimed(ledger, server.order("second", 6))
    server.now = "first"
    back = await claimed(ledger, server.order("first", 2))
    assert back.fence > lost.fence
    assert numbered(store) == ["first", "second", "first"]


@pytest.mark.parametrize("ahead", [1 << 42, 5 << 44, (DISPATCHES - 1) << ATTEMPT_BITS])
async def test_a_claim_that_no_dispatch_of_the_run_passes_numbers_it_anew(
    ledger: Ledger, store: Store, ahead: int
) -> None:
    """
    The claim was moved ahead by hand, or the ledger restored in part: the server says
    that the run is the current one.
    """
    server = Server()
    first = await claimed(ledger, server.order("first", 1))
    with store.write() as connection:
        moved = sa.update(fences).values(fence=fences.c.fence + ahead)
        connection.execute(moved)
    with pytest.raises(StaleAttemptError):
        ledger.record(first, answer(), "lost")
    then = await claimed(ledger, server.order("first", 2))
    assert then.fence > first.fence + ahead
    assert server.asked == 2
    ledger.record(then, answer(), "kept")


async def test_an_erased_batch_gives_no_number_twice(store: Store) -> None:
    """
    Its id may be used again, and a lease of its first life must not hold a claim of
    the second.
    """
    shelf = Shelf(store, MISSION)
    server = Server()
    before = await claimed(shelf.ledger, server.order("first"), "lease~1")
    with store.write() as connection:
        delete_batch(connection, MISSION)
    server.now = "second"
    after = await claimed(shelf.ledger, server.order("second"), "lease~1")
    assert after.fence > before.fence


async def test_a_lease_and_its_items_claim_in_order(store: Store) -> None:
    """
    Items hold the fence that their lease was given.
    """
    server = Server()
    lender = Lender(Shelf(store), None)  # type: ignore[arg-type]
    lender.fill([{"n": 1}])

    async def save(given: dict[str, Any], ctx: Any) -> str:
        await ctx.save(1)
        return "done"

    lent = lender.lent(save)
    lent.fence = server.order("first", 8)
    async with asyncio.timeout(BOUND_S):
        await lent.run()
    assert lent.claim is not None
    assert server.asked == 1
    assert lender.shelf.results() == {1: "done"}


async def test_a_lease_beats_while_it_waits_for_the_server(store: Store) -> None:
    """
    A server that is away is waited for, which is neither a failure nor a silence.
    """
    server = Server()
    lender = Lender(Shelf(store), None)  # type: ignore[arg-type]
    lender.fill([{"n": 1}])
    beaten = asyncio.Event()
    lender.on_beat = lambda _: beaten.set()
    server.after_look = beaten.wait  # type: ignore[assignment]

    async def play(given: dict[str, Any], ctx: Any) -> str:
        return "done"

    lent = lender.lent(play)
    lent.fence = server.order("first")
    async with asyncio.timeout(BOUND_S):
        worked = await lent.run()
    assert worked.settled == 1


# The race


@dataclass
class Resets:
    """
    A server whose workflow is reset again and again, while attempts of all of its
    runs, old and new, ask it late.
    """

    last: int = 50
    at: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self) -> None:
        with self.lock:
            self.at = min(self.at + 1, self.last)

    async def current_run(self) -> str | None:
        found = f"{self.at:03}"
        await asyncio.sleep(random.random() * 0.004)  # while it is on its way
        return found


def race(where: Path | str, resets: Resets, seed: int, errors: list[Exception]) -> None:
    """
    Claim for runs around the current one until the last one has begun.
    """
    draw = random.Random(seed)
    store = Store(where)
    ledger = Ledger(store)

    async def attempt_all() -> None:
        while resets.at < resets.last:
            run = max(0, resets.at - draw.randrange(3))
            order = AttemptOrder(f"{run:03}", draw.randrange(99), 1, resets.current_run)
            with suppress(StaleAttemptError):
                await claimed(ledger, order, f"t{draw.randrange(3)}")
            if draw.random() < 0.3:
                resets.advance()

    try:
        asyncio.run(asyncio.wait_for(attempt_all(), BOUND_S))
    except Exception as error:
        errors.append(error)
    finally:
        store.close()


def test_runs_are_numbered_in_the_order_of_the_server(where: Path | str) -> None:
    """
    Whoever asks how late: no run gets a number after one that has followed it.
    """
    resets, errors = Resets(), list[Exception]()
    racers = [
        threading.Thread(target=race, args=(where, resets, seed, errors))
        for seed in range(4)
    ]
    for each in racers:
        each.start()
    for each in racers:
        each.join()
    assert errors == []
    store = Store(where)
    found = numbered(store)
    store.close()
    assert found == sorted(set(found))
    assert len(found) > resets.last / 3, "there was hardly a race"


# How the server is asked


@pytest.mark.parametrize(
    ("found", "current"),
    [
        (Described("a"), "a"),
        (Described("a", close_time=1), None),
        (RPCStatusCode.NOT_FOUND, None),
    ],
    ids=["under way", "ended", "deleted"],
)
async def test_the_current_run_is_the_one_under_way(
    found: Any, current: str | None
) -> None:
    """
    A workflow that has ended or was deleted has none.
    """
    assert await current_run(RunClient(found), "w") == current  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "status",
    [
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.PERMISSION_DENIED,
    ],
)
async def test_a_server_that_does_not_answer_is_asked_again(
    status: RPCStatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is no failure of the attempt, and the log says what is waited for.
    """
    client = RunClient(status, Described("a"))
    assert await current_run(client, "w") == "a"  # type: ignore[arg-type]
    assert "as told" in caplog.text
