"""
Several processes at once on one ledger: no stale write stands, no write is lost.
"""

import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledger_racers import (
    FRESH,
    MISSION,
    Race,
    assignment,
    spawning,
    spend,
    take_over,
    together,
    write_stale,
)

from outlast.contracts.errors import StaleAttemptError
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import checkpoints, results, stale_writes

PAIRS = 2
RACES = 150  # of each pair
CONTROLS = 30  # races of each pair with the fence off: some is enough
WRITERS = 8
TRANSACTIONS = 200


@dataclass
class Ended:
    """
    How many races left a stale write standing, and what was refused.
    """

    races: int
    stale_results: int
    stale_checkpoints: int
    refused: Counter[str]


def race(where: Path | str, races: int, fencing: bool) -> Ended:
    """
    Race a stale against a fresh attempt for each task, PAIRS at a time.
    """
    Store(where).close()
    jobs = []
    for pair in range(PAIRS):
        names = [f"{pair}-{number}" for number in range(races)]
        args = (Race(where, fencing, names), spawning.Barrier(2))
        jobs += [(write_stale, args), (take_over, args)]
    assert together(jobs) == [0] * len(jobs)
    return ended(where)


def ended(where: Path | str) -> Ended:
    store = Store(where)
    with store.read() as connection:
        done = list(connection.scalars(sa.select(results.c.fence)))
        saved = list(connection.scalars(sa.select(checkpoints.c.fence)))
        refused = Counter(connection.scalars(sa.select(stale_writes.c.what)))
    store.close()
    assert len(done) == len(saved)
    return Ended(
        races=len(done),
        stale_results=sum(fence != FRESH for fence in done),
        stale_checkpoints=sum(fence != FRESH for fence in saved),
        refused=refused,
    )


def test_no_stale_write_stands(where: Path | str) -> None:
    """
    After a later claim nothing of the earlier one stands, in 300 races, and the
    stale attempt was really refused in them.
    """
    found = race(where, RACES, fencing=True)
    assert found.races == PAIRS * RACES
    assert (found.stale_results, found.stale_checkpoints) == (0, 0)
    assert set(found.refused) <= {"checkpoint", "result"}
    assert found.refused.total() > RACES / 2, "the races were hardly any"


def test_without_fencing_stale_writes_stand(where: Path | str) -> None:
    """
    The negative control: the same races catch it when the fence is off.
    """
    found = race(where, CONTROLS, fencing=False)
    assert found.races == PAIRS * CONTROLS
    assert found.stale_results > 0
    assert found.stale_checkpoints > 0
    assert not found.refused


def test_writing_processes_do_not_lock_each_other_out(where: Path | str) -> None:
    """
    Eight processes, from the creation of the store on: no error, each write counted.
    """
    start = spawning.Barrier(WRITERS)
    jobs = [
        (spend, (where, f"w{number}", TRANSACTIONS, start)) for number in range(WRITERS)
    ]
    assert together(jobs) == [0] * WRITERS
    store = Store(where)
    ledger = Ledger(store)
    total = ledger.record_usage(ledger.claim(assignment("sum"), "racer", FRESH), 0, 0.0)
    store.close()
    assert total.mission == (WRITERS * TRANSACTIONS, WRITERS * TRANSACTIONS / 2)


def test_one_of_many_claims_wins(where: Path | str) -> None:
    """
    Two connections that claim with one fence never both hold it.
    """
    first, second = Store(where), Store(where)
    Ledger(first).claim(assignment("a"), "racer", FRESH)
    with pytest.raises(StaleAttemptError, match=MISSION):
        Ledger(second).claim(assignment("a"), "racer", FRESH)
    first.close()
    second.close()


def test_a_store_in_the_making_is_waited_for(tmp_path: Path) -> None:
    """
    A process that opens the store while another one creates it waits for that one:
    a fleet's processes start at once.
    """
    path = tmp_path / "store.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE busy (x)")
    done = threading.Timer(0.3, other.execute, ["COMMIT"])
    done.start()
    try:
        Store(path).close()
    finally:
        done.join()
        other.close()
