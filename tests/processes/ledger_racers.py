"""
The processes that race in `test_ledger_races`; each opens the store for itself.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.errors import StaleAttemptError
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Task
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store

MISSION = "races"
STALE, FRESH = 1, 2
WRITES = 3  # by the stale attempt in each race, so that some come after the claim
BOUND_S = 30.0

# A fresh interpreter that has this module loaded, once, forks each racer from there.
spawning = multiprocessing.get_context("forkserver")
spawning.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Race:
    """
    Which tasks two processes race for, and where.
    """

    where: Path | str
    fencing: bool
    names: list[str]


def together(jobs: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> list[int]:
    """
    Run *jobs* in a process each; returns their exit codes.
    """
    processes = [spawning.Process(target=act, args=args) for act, args in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(BOUND_S)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def write_stale(race: Race, start: Barrier) -> None:
    """
    Hold each task's first claim, and go on writing while it is taken over.
    """
    store = Store(race.where)
    ledger = Ledger(store, fencing=race.fencing)
    for name in race.names:
        claim = ledger.claim(assignment(name), "racer", STALE)
        start.wait(BOUND_S)
        for number in range(WRITES):
            try:
                ledger.save(claim, checkpoint(STALE), False)
                ledger.record(claim, ResultRef(digest="x", attempt=1), [STALE, number])
            except StaleAttemptError:
                break
        start.wait(BOUND_S)
    store.close()


def take_over(race: Race, start: Barrier) -> None:
    """
    Claim each task a second time, and write what must stand from then on.
    """
    store = Store(race.where)
    ledger = Ledger(store, fencing=race.fencing)
    for name in race.names:
        start.wait(BOUND_S)
        claim = ledger.claim(assignment(name), "racer", FRESH)
        ledger.save(claim, checkpoint(FRESH), False)
        ledger.record(claim, ResultRef(digest="x", attempt=2), [FRESH, 0])
        start.wait(BOUND_S)
    store.close()


def spend(where: Path | str, name: str, times: int, start: Barrier) -> None:
    """
    Write *times* as fast as possible, in turns with nobody.
    """
    start.wait(BOUND_S)
    store = Store(where)
    ledger = Ledger(store)
    claim = ledger.claim(assignment(name), "racer", FRESH)
    for number in range(times):
        ledger.record_usage(claim, 1, 0.5)
        if number % 10 == 0:
            ledger.save(claim, checkpoint(number), False)
    store.close()


def assignment(name: str) -> AttemptInput:
    task = Task(id=name, role="racer")
    return AttemptInput(mission=MISSION, tenant="t", task=task)


def checkpoint(seq: int) -> Checkpoint:
    return Checkpoint(seq=seq, route="racer")
