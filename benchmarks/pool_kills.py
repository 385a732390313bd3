"""
What a SIGKILL every 2 s costs a batch: items played twice, and the time until the dead
one's lease is at work again.
"""

import os
import signal
import statistics
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.pool_agents import PLAYS_VARIABLE
from benchmarks.pool_setup import PoolBench, Starter
from benchmarks.result_rows import TableRow, least, most, p95
from outlast.execution.result_writer import MAX_BUFFERED
from outlast.store.database import Store
from outlast.store.schema import attempts
from testkit.processes import every

KILL_EVERY_S, MEDIAN_S, P95_S = 2.0, 0.1, 0.3


def measure_kills(bench: PoolBench) -> list[TableRow]:
    """
    SIGKILL of a random agent process every 2 s.
    """
    rows = []
    for role, how in (("tally-wait", "wait"), ("tally-work", "compute")):
        plays = Path(bench.home.extra[PLAYS_VARIABLE])
        plays.write_bytes(b"")
        killed: dict[int, float] = {}
        killing = partial(kill_on, bench, killed)
        played = bench.play(role, bench.args.items, meanwhile=killing)
        told = f"{played.items:,} items that {how} 1 ms, a SIGKILL every 2 s: kills"
        rows += [
            least(told, len(killed), bench.args.kills),
            bench.right(played),
            *_judge_plays(plays, killed),
            *_judge_takeovers(bench, played.batch, killed),
        ]
    return rows


def kill_on(bench: PoolBench, killed: dict[int, float], starter: Starter) -> None:
    with every(KILL_EVERY_S, starter) as ticks:
        for _ in ticks:
            pids = bench.home.fleets[-1].pids("agents")
            if pids:
                pid = bench.dice.choice(pids)
                killed[pid] = time.time()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _judge_plays(plays: Path, killed: dict[int, float]) -> list[TableRow]:
    """
    Charge each repetition of an item to the process that had played it last.
    """
    last: dict[int, int] = {}
    redone: Counter[int] = Counter()
    for line in plays.read_bytes().splitlines():
        pid, item = map(int, line.split())
        if item in last:
            redone[last[item]] += 1
        last[item] = pid
    by_kills = [redone.pop(pid, 0) for pid in killed]
    told = f"  items redone after a kill, {sum(by_kills):,} in all: the most"
    return [
        most(told, max(by_kills, default=0), MAX_BUFFERED),
        most("  items redone for any other reason", redone.total(), 0),
    ]


def _judge_takeovers(
    bench: PoolBench, batch: str, killed: dict[int, float]
) -> list[TableRow]:
    """
    Time from each kill to the next attempt at the lease that the dead one had in hand,
    and to the next attempt at any lease of the batch.
    """
    lines = _attempts(bench, batch)
    seconds, others = [], []
    for pid, at in killed.items():
        mine = [each for each in lines if each.pid == pid]
        later = [each for each in lines if each.started_at > at]
        held = mine[-1].task if mine else None
        # A lease without a later attempt had ended before the kill.
        seconds += [e.started_at - at for e in later if e.task == held][:1]
        others += [e.started_at - at for e in later][:1]
    assert seconds, "no kill hit a lease"
    told = f"  {len(seconds)} kills hit a lease: s until it is at work again"
    return [
        most(f"{told}, median", statistics.median(seconds), MEDIAN_S, ".3f"),
        most(f"{told}, p95", p95(seconds), P95_S, ".3f"),
        TableRow(f"{told}, worst", f"{max(seconds):.3f}"),
        TableRow(
            "  s until any lease begins, median", f"{statistics.median(others):.3f}"
        ),
    ]


def _attempts(bench: PoolBench, batch: str) -> list[Any]:
    store = Store(bench.home.path / "store.db")
    query = sa.select(attempts).where(
        attempts.c.mission == batch, attempts.c.task.startswith("lease~")
    )
    try:
        with store.read() as connection:
            return list(connection.execute(query.order_by(attempts.c.started_at)))
    finally:
        store.close()
