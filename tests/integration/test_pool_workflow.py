"""
What the pool workflow does with every way in which a lease can end.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from small_pool import Pool, ended
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from outlast.contracts.batches import (
    FIRST_LEASE_ITEMS,
    MAX_LEASE_CRASHES,
    MAX_LEASES,
    TARGET_LEASE_S,
    ItemRange,
    Lease,
    LeaseState,
    PendingItems,
)
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import lease_queue, quarantine_queue, task_queue
from outlast.contracts.quarantine import Death
from outlast.dev.server import DevServer
from outlast.ledger.items import ItemRecords
from outlast.store.database import Store
from outlast.temporal.connect import connect

pytestmark = pytest.mark.timeout(90)

CALM = Death(watched_s=86_400.0)
STORM = Death(other_s=0.1, outside_s=0.1, watched_s=86_400.0)


@pytest.fixture
async def pool(time: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Pool]:
    store = Store(tmp_path / "store.db")
    yield Pool(time.client, store)
    store.close()


async def test_every_item_is_lent_once(pool: Pool) -> None:
    """
    Leases never overlap, and when nothing is left the batch is closed and counted.
    """
    report = await pool.run(300)

    assert (report.items, report.done, report.dead) == (300, 300, 0)
    assert not report.cancelled
    assert Counter(n for each in pool.lent for n in each.numbers) == Counter(
        range(1, 301)
    )
    found = pool.batches.find(pool.name)
    assert found is not None
    assert found.state == "completed"


async def test_an_empty_batch_closes(pool: Pool) -> None:
    """
    Sealed and without an item there is nothing to wait for.
    """
    report = await pool.run(0)
    assert (report.items, report.done) == (0, 0)


async def test_what_is_settled_already_is_not_lent(pool: Pool) -> None:
    """
    A batch that goes on does what is left of it.
    """
    pool.fill(range(1, 101))
    for number in range(1, 101):
        if number not in (7, 50):
            pool._settle(number)
    pool.played.clear()
    async with pool.at_work():
        report = await (await pool.start()).result()
    assert report.done == 100
    assert pool.played == Counter([7, 50])


async def test_leases_grow_with_fast_items_and_events_stay_few(pool: Pool) -> None:
    """
    From a first small lease to ones of many items: under 0.05 events an item.
    """
    pool.item_s = 0.000_1
    report = await pool.run(20_000)

    sizes = [len(each.numbers) for each in pool.lent]
    assert sizes[0] == FIRST_LEASE_ITEMS
    assert max(sizes) > 16 * FIRST_LEASE_ITEMS
    assert report.events / report.done < 0.05


async def test_a_lease_that_dies_goes_on(pool: Pool) -> None:
    """
    The same lease again, with one death charged to the item in hand; nobody is buried,
    and what was done before is not done again.
    """
    pool.kills = {5: 1}
    report = await pool.run(100)

    assert (report.done, report.dead) == (100, 0)
    again = [each.lease for each in pool.lent if each.lease.deaths]
    assert [lease.deaths for lease in again] == [{5: 1}]
    assert [each.lease.span for each in pool.lent].count(again[0].span) == 2
    assert pool.alone() == []
    assert set(pool.played.values()) == {1}


async def test_what_a_dead_lease_had_done_is_counted(pool: Pool) -> None:
    """
    Progress tells every settled item, also those that a lease settled before it died.
    """
    pool.kills = {5: 1}
    pool.fill(range(1, 21))
    async with pool.at_work():
        handle = await pool.start(lease_size=8)
        await handle.result()
        assert (await pool.progress(handle)).settled == 20


@pytest.mark.parametrize("item", [1, 5, 8], ids=["first", "middle", "last"])
async def test_an_item_that_kills_goes_alone_and_is_buried(
    pool: Pool, item: int
) -> None:
    """
    Twice in a lease, once alone by an end that explains itself: then it is a dead
    letter with its cause, and no neighbour is left out, wherever in its lease it stood.
    """
    pool.kills = {item: 99}
    report = await pool.run(60)

    assert (report.done, report.dead) == (59, 1)
    assert pool.kills[item] == 99 - 3
    assert pool.alone() == [item]
    assert pool.results() == set(range(1, 61)) - {item}
    assert pool.dead()[item] == "its process died 3 times: exit report: killed"
    waited = {
        (each.lease.quarantined, each.lease.redelivered): each.queue
        for each in pool.lent
    }
    assert waited == {
        (False, False): lease_queue("worker"),
        (False, True): task_queue("worker"),  # not behind all the others
        (True, False): quarantine_queue("worker"),
    }


async def test_an_item_that_is_killed_by_nobody_knows_whom_is_buried_later(
    pool: Pool,
) -> None:
    """
    Where no other process dies meanwhile: twice in a lease and three times alone.
    """
    pool.kills = {5: 99}
    pool.death = CALM
    report = await pool.run(60)

    assert (report.done, report.dead) == (59, 1)
    assert pool.kills[5] == 99 - 5
    assert "5 times, the last 3 alone while no other" in pool.dead()[5]


async def test_an_innocent_item_in_a_storm_is_done(pool: Pool) -> None:
    """
    However often it is hit alone, as long as others are killed, too.
    """
    pool.kills = {5: 30}
    pool.death = STORM
    report = await pool.run(60)

    assert (report.done, report.dead) == (60, 0)
    assert pool.played[5] == 1


async def test_others_are_lent_while_items_wait_in_quarantine(pool: Pool) -> None:
    """
    More of them than the window has leases.
    """
    suspects = range(1, 2 * MAX_LEASES)
    pool.kills = dict.fromkeys(suspects, 4)
    pool.death = STORM
    report = await pool.run(400)

    assert (report.done, report.dead) == (400, 0)
    waited = [each for each in pool.lent if each.lease.quarantined][-1]
    assert pool.lent.index(waited) == len(pool.lent) - 1, "all others were sooner"


async def test_a_storm_does_not_end_the_batch(pool: Pool) -> None:
    """
    Deaths before an item is in hand are nobody's while others are killed, too.
    """
    pool.ends = [
        ended(FailureType.CRASHED, death=STORM) for _ in range(5 * MAX_LEASE_CRASHES)
    ]
    report = await pool.run(1)

    assert (report.done, report.dead) == (1, 0)


async def test_an_item_that_survives_alone_is_done(pool: Pool) -> None:
    """
    Two deaths may have been a neighbour's fault: alone it has its chance.
    """
    pool.kills = {5: 2}
    report = await pool.run(60)

    assert (report.done, report.dead) == (60, 0)
    assert pool.alone() == [5]
    assert pool.played[5] == 1


async def test_whoever_is_lent_knows_what_an_item_takes(pool: Pool) -> None:
    """
    As soon as a lease has told it: also an item alone and a lease that died, or one
    that hangs would hold the other suspects up for as long as its policy allows.
    """
    pool.kills = {500: 99}
    await pool.run(1_000)

    assert pool.alone() == [500]
    suspects = [
        each.lease
        for each in pool.lent
        if each.lease.redelivered or each.lease.quarantined
    ]
    assert [lease.mean_item_s for lease in suspects] == [pool.item_s] * 3


async def test_the_innocent_in_hand_are_not_buried(pool: Pool) -> None:
    """
    What was in hand beside a killer goes alone as well, and is done there.
    """
    pool.kills = {3: 99}
    pool.beside = {3: [4, 6]}
    report = await pool.run(60)

    assert pool.dead().keys() == {3}
    assert report.done == 59
    assert sorted(pool.alone()) == [3, 4, 6]
    assert set(pool.played.values()) == {1}


async def test_killers_of_several_leases_are_all_buried(pool: Pool) -> None:
    """
    Each with three deaths at most, whatever the others do.
    """
    killers = {1, 8, 9, 31, 60}
    pool.kills = dict.fromkeys(killers, 99)
    report = await pool.run(60)

    assert pool.dead().keys() == killers
    assert report.done == 55
    assert set(pool.kills.values()) == {96}


async def test_many_killers_in_one_lease_do_not_end_the_batch(pool: Pool) -> None:
    """
    Deaths that are charged to items are no sign of a lease that never begins: a bad
    stretch of the input costs its own items and no other.
    """
    killers = set(range(1, 13))
    assert 2 * len(killers) > MAX_LEASE_CRASHES
    pool.kills = dict.fromkeys(killers, 99)
    report = await pool.run(60, lease_size=100)

    assert not report.cancelled
    assert pool.dead().keys() == killers
    assert report.done == 48


async def test_a_death_after_the_result_buries_nobody(pool: Pool) -> None:
    """
    A process may die when the item's result is written already, and its end not yet
    reported: the result stands, and the batch can be closed.
    """
    pool.kills = {5: 2}
    pool.late = {5: 1}
    report = await pool.run(30)

    assert (report.done, report.dead) == (30, 0)


async def test_a_lease_that_never_begins_ends_the_batch(pool: Pool) -> None:
    """
    A fleet whose processes all die before an item is a fleet to mend: the batch ends,
    and what is done is kept.
    """
    pool.ends = [ended(FailureType.CRASHED) for _ in range(5 * MAX_LEASE_CRASHES)]
    report = await pool.run(1)

    assert report.cancelled
    assert report.dead == 0
    assert pool.ends


async def test_a_few_deaths_before_an_item_are_nobodys(pool: Pool) -> None:
    """
    They are neither charged nor do they end anything.
    """
    pool.ends = [ended(FailureType.CRASHED) for _ in range(5)]
    report = await pool.run(30)

    assert (report.done, report.dead) == (30, 0)
    assert pool.alone() == []


async def test_drained_leases_are_lent_again_and_not_counted(pool: Pool) -> None:
    """
    A worker that leaves is no death, however many leave and whatever was in hand.
    """
    pool.ends = [ended(FailureType.DRAINED, 3) for _ in range(2 * MAX_LEASE_CRASHES)]
    report = await pool.run(8)

    assert (report.done, report.dead) == (8, 0)
    assert not report.cancelled
    assert all(not each.lease.deaths for each in pool.lent)


async def test_an_overtaken_lease_charges_no_item(pool: Pool) -> None:
    """
    Whoever is refused its writes has not died: what it had in hand is no suspect.
    """
    pool.ends = [ended(FailureType.STALE, 1, cause="refused") for _ in range(4)]
    report = await pool.run(8)

    assert (report.done, report.dead) == (8, 0)
    assert pool.alone() == []
    assert all(not each.lease.deaths for each in pool.lent)


async def test_a_lease_that_fails_for_good_ends_the_batch(
    server: DevServer, tmp_path: Path
) -> None:
    """
    For instance a store that is another one: no lease could do better, and the report
    says why. (On a real server: the time-skipping one forgets a cancelled activity.)
    """
    store = Store(tmp_path / "store.db")
    pool = Pool(await connect(server.address), store, name=tmp_path.name)
    pool.ends = [ended(FailureType.FAILED, cause="no such store")]
    report = await pool.run(60)
    store.close()

    assert report.cancelled
    assert report.failed == "no such store"


async def test_a_lease_that_raises_is_tried_again_by_the_server(pool: Pool) -> None:
    """
    As often as the policy says.
    """
    pool.ends = [ApplicationError("locked", type=FailureType.FAILED)]
    report = await pool.run(8)

    assert (report.done, report.cancelled) == (8, False)


async def test_no_more_leases_are_out_than_the_window_holds(pool: Pool) -> None:
    """
    And no fewer, while there is something to lend.
    """
    pool.gate.clear()
    pool.fill(range(1, 1001))
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, leases=MAX_LEASES)
        async with asyncio.timeout(30):
            while pool.now < MAX_LEASES:
                await pool.progress(handle)
        for _ in range(5):
            assert (await pool.progress(handle)).leases == MAX_LEASES
        pool.gate.set()
        report = await handle.result()

    assert report.done == 1000
    assert pool.most == MAX_LEASES


async def test_a_new_run_keeps_the_counts(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Past so many events the workflow begins anew, with nothing out: every item is lent
    once, and what was counted stays counted.
    """
    monkeypatch.setattr(
        "outlast.workflows.batch_context.POOL_CONTINUE_AS_NEW_EVENTS", 60
    )
    pool.item_s = TARGET_LEASE_S
    pool.kills = {20: 99}
    pool.fill(range(1, 81))
    async with pool.at_work():
        handle = await pool.start(lease_size=1)
        report = await handle.result()
        found = await pool.progress(pool.client.get_workflow_handle(pool.name))

    runs = {each.run for each in pool.lent}
    assert len(runs) > 2
    assert (report.done, report.dead) == (79, 1)
    assert set(pool.played.values()) == {1}
    assert found.settled == 80
    assert found.dead == 1
    assert report.events > 60 * (len(runs) - 1)


async def test_a_lease_without_end_is_handed_back_uncounted(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    So that it holds up no other item; the deaths of its items before that stay counted.
    """
    monkeypatch.setattr(
        "outlast.workflows.batch_context.POOL_CONTINUE_AS_NEW_EVENTS", 60
    )
    monkeypatch.setattr("outlast.workflows.renewal.GRACE_S", 0.2)
    pool.item_s = TARGET_LEASE_S
    pool.slow = {1}
    pool.gate.clear()
    pool.fill(range(1, 41))
    died = Lease(batch=pool.batch, span=ItemRange(start=1, stop=2), deaths={1: 1})
    loan = LeaseState(lease=died, died_at=0.0)
    async with pool.at_work():
        handle = await pool.start(lease_size=1, read_up_to=1, leases=[loan])
        async with asyncio.timeout(30):
            await pool.nearly.wait()
        pool.gate.set()
        report = await handle.result()

    assert (report.done, report.dead) == (40, 0)
    mine = [each for each in pool.lent if each.lease.span.start == 1]
    assert len({each.run for each in mine}) > 1
    assert {tuple(each.lease.deaths.items()) for each in mine} == {((1, 1),)}
    assert set(pool.played.values()) == {1}


async def test_items_that_come_while_it_runs_are_lent(pool: Pool) -> None:
    """
    Until no more will come the pool waits for word of them; then it closes.
    """
    pool.fill(range(1, 6), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, settled=5, leases=0)
        pool.fill(range(6, 31), closed=False)
        await handle.signal("wake")
        await pool.until(handle, settled=30, leases=0)
        pool.batches.close_input(pool.name)
        await handle.signal("wake")
        report = await handle.result()

    assert (report.items, report.done) == (30, 30)
    assert set(pool.played.values()) == {1}


async def test_items_that_come_while_leases_are_out_are_lent(pool: Pool) -> None:
    """
    Word of them is heeded at once, not when the last lease has ended.
    """
    pool.gate.clear()
    pool.fill(range(1, 33), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, leases=4)
        pool.fill(range(33, 65), closed=True)
        await handle.signal("wake")
        found = await pool.until(handle, leases=8)
        assert found.settled == 0
        pool.gate.set()
        report = await handle.result()

    assert report.done == 64


async def test_what_is_taken_back_while_it_runs_is_lent_again(pool: Pool) -> None:
    """
    A dead letter that is redriven in a running batch is done before the batch closes.
    """
    pool.kills = {2: 3}
    pool.fill(range(1, 21), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, dead=1, leases=0)
        assert pool.outcomes.redrive(pool.name, None, None) == 1
        pool.batches.close_input(pool.name)
        await handle.signal("wake")
        report = await handle.result()

    assert (report.done, report.dead) == (20, 0)


async def test_cancel_closes_the_batch_and_keeps_what_is_done(pool: Pool) -> None:
    """
    Leases under way are cancelled, nothing more is lent, the report says so.
    """
    pool.fill(range(1, 9), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, settled=8, leases=0)
        pool.gate.clear()
        pool.fill(range(9, 201))
        await handle.signal("wake")
        async with asyncio.timeout(30):
            while not pool.now:
                await pool.progress(handle)
        await handle.execute_update("cancel", "enough")
        report = await handle.result()

    assert report.cancelled
    assert (report.items, report.done) == (200, 8)
    assert pool.now == 0
    found = pool.batches.find(pool.name)
    assert found is not None
    assert found.state == "cancelled"


async def test_a_batch_is_cancelled_once(pool: Pool) -> None:
    """
    A second cancel is refused while the first is under way.
    """
    pool.fill(range(1, 17), closed=False)
    pool.gate.clear()
    pool.stubborn = True
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, leases=2)
        async with asyncio.timeout(30):
            while pool.now < 2:
                await pool.progress(handle)
        await handle.execute_update("cancel", "enough")
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("cancel", "more")
        pool.gate.set()
        assert (await handle.result()).cancelled


async def test_a_cancellation_from_outside_is_counted_too(pool: Pool) -> None:
    """
    Cancelling the workflow in the Web UI closes the batch with its counts.
    """
    pool.fill(range(1, 9), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, settled=8, leases=0)
        await handle.cancel()
        report = await handle.result()

    assert report.cancelled
    assert report.done == 8


async def test_a_cancellation_while_the_books_are_read_is_heeded(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whatever the workflow waits for when it comes: no item is begun any more.
    """
    reading, go_on = asyncio.Event(), threading.Event()
    loop, survey = asyncio.get_running_loop(), ItemRecords.pending

    def slow(items: ItemRecords, batch: str, after: int) -> PendingItems:
        loop.call_soon_threadsafe(reading.set)
        assert go_on.wait(30)
        return survey(items, batch, after)

    monkeypatch.setattr(ItemRecords, "pending", slow)
    pool.fill(range(1, 201))
    async with pool.at_work():
        handle = await pool.start()
        await reading.wait()
        await handle.cancel()
        loop.call_later(1.0, go_on.set)
        report = await handle.result()

    assert report.cancelled
    assert report.done < 200


async def test_a_cancelled_batch_goes_on_when_it_is_opened_again(pool: Pool) -> None:
    """
    The same id again: what is left of it is done.
    """
    pool.fill(range(1, 9), closed=False)
    async with pool.at_work():
        handle = await pool.start()
        await pool.until(handle, settled=8, leases=0)
        await handle.execute_update("cancel", "enough")
        await handle.result()
        pool.batches.open_batch(pool.batch)
        pool.fill(range(9, 17))
        report = await (await pool.start()).result()

    assert (report.done, report.cancelled) == (16, False)
    assert set(pool.played.values()) == {1}
