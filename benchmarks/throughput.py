"""
What the pool does a second, what faults cost it, and how much memory it takes.

    python -m benchmarks.throughput [--items 100000] [--million] [--kills 15]
        [--activities 1000] [--only trivial work kills poison two memory]

All on one embedded server with the shipped fleet of two agent processes; every result
is read back by `starter.py results` and compared. A rate is the starter's own, from
before the first item is fed until the batch has ended. Memory is what 1,000,000 items
take (--million, else as many as elsewhere) against 10,000. Exit code 1 says that a
bound was missed.
"""

import argparse
import asyncio
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

from temporalio.client import Client

from benchmarks.pool_agents import (
    LARGE_BYTES,
    PROCESSES,
    WORK_S,
    best_rate,
    stock_rate,
)
from benchmarks.pool_kills import measure_kills
from benchmarks.pool_setup import (
    PlayedBatch,
    PoolBench,
    Starter,
    fleet_mb,
    pool_bench,
    print_progress,
)
from benchmarks.result_rows import TableRow, least, most
from testkit.processes import wait_for

RATE, TIMES_STOCK, EVENTS = 10_000, 50, 0.05
SAVE_ITEMS, WARM_ITEMS = 10_000, 10_000
WORK_ITEMS, WORK_SHARE = 2_000, 0.9
POISON = ("raise", "kill", "hang", "raise", "large", "kill", "raise")
DEATHS_EACH, POISON_TIMES = 3, 1.5
SMALL, START_S = 200, 2.0
FEW, MILLION, GROWTH_SHARE, GROWTH_MB = 10_000, 1_000_000, 0.2, 30.0

EXPECTED_CAUSES = {
    "raise": "ValueError: poison",
    "kill": "its process died 3 times: exit report: killed by SIGKILL",
    "hang": "no progress for",
    "large": f"a result of {LARGE_BYTES + 2} bytes is over the cap",
}


def measure_trivial(bench: PoolBench) -> list[TableRow]:
    """
    Trivial items, and as many as one activity each allows.
    """
    bench.play("double", WARM_ITEMS)  # a fleet that has just started is slower
    played = bench.play("double", bench.args.items)
    whole = played.items / (played.ended - played.began)
    address = bench.home.server.address
    events = asyncio.run(count_events(address, played.batch)) / played.items
    saved = bench.play("save", SAVE_ITEMS)
    print_progress("stock Temporal")
    stock = stock_rate(address, bench.args.activities)
    return [
        least(f"{played.items:,} trivial items: items a second", played.rate, RATE),
        TableRow(
            "  with the starter's own start and look at the file", f"{whole:,.0f}"
        ),
        bench.right(played),
        most("  events an item, counted on the server", events, EVENTS, ".4f"),
        TableRow(
            "  one activity an item, same server: items a second", f"{stock:,.0f}"
        ),
        least("  times that", played.rate / stock, TIMES_STOCK, ".1f"),
        TableRow("  items that save once each: items a second", f"{saved.rate:,.0f}"),
        bench.right(saved),
    ]


async def count_events(address: str, batch: str) -> int:
    client = await Client.connect(address)
    found = client.list_workflows(f"WorkflowId = '{batch}'")
    runs = [client.get_workflow_handle(batch, run_id=r.run_id) async for r in found]
    assert runs, "the server does not list the batch"
    return sum([(await each.describe()).history_length for each in runs])


def measure_work(bench: PoolBench) -> list[TableRow]:
    """
    Items of real work, against the same work in two processes that do nothing else.
    """
    rows = []
    for role, kind in (("work", "async"), ("work-plainly", "plain")):
        # The speed of a shared machine drifts: the best is taken before and after.
        before = best_rate(WORK_ITEMS)
        played = bench.play(role, WORK_ITEMS)
        best = statistics.mean([before, best_rate(WORK_ITEMS)])
        told = f"{WORK_ITEMS:,} items of {WORK_S * 1000:.0f} ms, {kind} agent"
        share = played.rate / best
        rows += [
            least(f"{told}: share of {best:.1f}/s", share, WORK_SHARE, ".1%"),
            bench.right(played),
        ]
    return rows


def measure_poison(bench: PoolBench) -> list[TableRow]:
    """
    Seven items that cannot be done, evenly among the others.
    """
    items, fleet = bench.args.items, bench.home.fleets[-1]
    apart = items // (len(POISON) + 1)
    poison = {apart * at: how for at, how in enumerate(POISON, 1)}
    before = bench.play("moody", items)
    wait_for(lambda: fleet.health()["ready"], "the whole fleet")
    restarts = fleet.health()["restarts"]
    played = bench.play("moody", items, poison)
    wait_for(lambda: fleet.health()["ready"], "the whole fleet")
    deaths = fleet.health()["restarts"] - restarts
    clean = statistics.mean([before.seconds, bench.play("moody", items).seconds])
    told = f"{items:,} items, {len(poison)} of them poison: times the clean {clean:.1f}"
    killers = Counter(POISON)["kill"]
    return [
        most(f"{told} s", played.seconds / clean, POISON_TIMES, ".2f"),
        bench.right(played, dead=set(poison)),
        *_judge_letters(bench, played.batch, poison),
        most(f"  worker deaths by {killers} killers", deaths, DEATHS_EACH * killers),
    ]


def _judge_letters(
    bench: PoolBench, batch: str, poison: dict[int, str]
) -> list[TableRow]:
    letters = bench.home.starter("dead-letters", batch, "--json").json
    causes = {each["item"]: each["cause"] for each in letters}
    true = {
        n
        for n, how in poison.items()
        if causes.get(n, "").startswith(EXPECTED_CAUSES[how])
    }
    for n in causes.keys() - true:
        print_progress(f"{batch}: item {n}, {poison.get(n, 'sound')}: {causes[n]}")
    return [
        most("  dead letters", len(causes), len(poison)),
        least("  of them with the true cause", len(true), len(poison)),
    ]


def measure_two(bench: PoolBench) -> list[TableRow]:
    """
    A small batch for the same agent, begun while a huge one runs.
    """
    small: list[PlayedBatch] = []

    def play_small(_: Starter) -> None:
        time.sleep(START_S)
        small.append(bench.play("tally-wait", SMALL))

    huge = bench.play("tally-wait", bench.args.items, meanwhile=play_small)
    told = f"{SMALL} items beside {huge.items:,} of the same agent: s until they ended"
    (little,) = small
    return [
        most(told, little.ended - little.began, huge.ended - little.began, ".1f"),
        bench.right(little),
        bench.right(huge),
    ]


def measure_memory(bench: PoolBench) -> list[TableRow]:
    """
    The most memory that each process of a fresh fleet ever had, by number of items.
    """
    many = MILLION if bench.args.million else bench.args.items
    bench.home.fleets.pop().stop()
    fleet = bench.home.fleet(PROCESSES)
    few = bench.play("double", FEW)
    before = fleet_mb(fleet.process.pid)
    played = bench.play("double", many)
    after = fleet_mb(fleet.process.pid)
    peaks = {"starter": [(few.starter_mb, played.starter_mb)]}
    kinds = {each["pid"]: each["kind"] for each in fleet.health()["processes"]}
    kinds[fleet.process.pid] = "parent"
    for pid in before:
        kind = kinds.get(pid, "fork servers")
        peaks.setdefault(kind, []).append((before[pid], after.get(pid, math.inf)))
    rows = [_grown(kind, pairs) for kind, pairs in peaks.items()]
    told = f"Memory of {FEW:,} items -> {many:,} at {played.rate:,.0f} a second"
    return [TableRow(told, ""), bench.right(played), *rows]


def _grown(kind: str, pairs: list[tuple[float, float]]) -> TableRow:
    before, after = max(pairs, key=lambda pair: pair[1] - pair[0])
    allowed = before + max(GROWTH_SHARE * before, GROWTH_MB)
    return most(f"  {kind}: {before:.0f} MB ->", after, allowed, ".0f")


MEASUREMENTS: dict[str, Callable[[PoolBench], list[TableRow]]] = {
    "trivial": measure_trivial,
    "work": measure_work,
    "kills": measure_kills,
    "poison": measure_poison,
    "two": measure_two,
    "memory": measure_memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--kills", type=int, default=15, help="at least so many")
    parser.add_argument("--activities", type=int, default=1_000)
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS)
    )
    args = parser.parse_args()
    with pool_bench(args) as bench:
        rows = [row for part in args.only for row in MEASUREMENTS[part](bench)]
    print(f"{'':<64}{'measured':>12}{'bound':>12}")
    for row in rows:
        print(row)
    return int(any(row.held is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
