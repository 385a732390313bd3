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
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from temporalio.client import Client

from benchmarks.pool_agents import (
    LARGE_BYTES,
    PLAYS,
    PROCESSES,
    WORK_S,
    best_rate,
    stock_rate,
)
from drills.real import Home, every, wait_for
from outlast.attempt.lease import UNWRITTEN_MOST
from outlast.runtime.embedded import Server, choose_ports
from outlast.store.database import Store
from outlast.store.schema import attempts

LIMIT_S = 1800.0
LOOK_S = 0.05

RATE, TIMES_STOCK, EVENTS = 10_000, 50, 0.05
SAVE_ITEMS, WARM_ITEMS = 10_000, 10_000
WORK_ITEMS, WORK_SHARE = 2_000, 0.9
KILL_EVERY_S, MEDIAN_S, P95_S = 2.0, 0.1, 0.3
POISON = ("raise", "kill", "hang", "raise", "large", "kill", "raise")
DEATHS_EACH, POISON_TIMES = 3, 1.5
SMALL = 200
FEW, MILLION, GROWTH_SHARE, GROWTH_MB = 10_000, 1_000_000, 0.2, 30.0

CAUSES = {
    "raise": "ValueError: poison",
    "kill": "its process died 3 times: exit report: killed by SIGKILL",
    "hang": "no progress for",
    "large": f"a result of {LARGE_BYTES + 2} bytes is over the cap",
}


class Row(NamedTuple):
    """
    One figure; *held* is None where nothing is promised.
    """

    what: str
    figure: str
    bound: str = ""
    held: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "ok", False: "MISSED"}[self.held]
        return f"{self.what:<64}{self.figure:>12}{self.bound:>12}  {verdict}".rstrip()


def least(what: str, figure: float, bound: float, form: str = ",.0f") -> Row:
    return Row(what, f"{figure:{form}}", f">= {bound:{form}}", figure >= bound)


def most(what: str, figure: float, bound: float, form: str = ",.0f") -> Row:
    return Row(what, f"{figure:{form}}", f"<= {bound:{form}}", figure <= bound)


Starter = subprocess.Popen[str]


@dataclass(frozen=True)
class Played:
    """
    A batch that has ended: what its starter said, and how that was as a process.
    """

    batch: str
    items: int
    said: dict[str, Any]
    began: float
    ended: float
    starter_mb: float

    @property
    def seconds(self) -> float:
        return float(self.said["seconds"])

    @property
    def rate(self) -> float:
        return float(self.said["rate"])


@dataclass
class Bench:
    """
    A home with a server and the shipped fleet.
    """

    home: Home
    args: argparse.Namespace
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    count: int = 0

    def play(
        self,
        role: str,
        items: int,
        poison: dict[int, str] | None = None,
        meanwhile: Callable[[Starter], None] = lambda _: None,
    ) -> Played:
        """
        Have the starter feed a batch of numbers from 1 on, and follow it to its end;
        *poison* tells how some of them behave.
        """
        self.count += 1
        batch = f"{role}-{self.count}"
        path = self.home.path / f"{batch}.jsonl"
        write_items(path, items, poison or {})
        began, peak = time.time(), 0.0
        told = ("batch", str(path), "--agent", role, "--id", batch, "--json")
        starter = self.home.begin(*told)
        meanwhile(starter)
        while starter.poll() is None:
            assert time.time() < began + LIMIT_S, f"{batch} does not end"
            peak = max(peak, peak_mb(starter.pid))
            time.sleep(LOOK_S)
        ended = time.time()
        out, err = starter.communicate()
        assert starter.returncode == 0, err
        tell(f"{batch}: {items:,} items in {ended - began:.1f} s")
        return Played(batch, items, json.loads(out), began, ended, peak)

    def right(self, played: Played, dead: set[int] | None = None) -> Row:
        """
        Read all results back and count those that are wrong, lost or too many.
        """
        reading = self.home.begin("results", played.batch)
        assert reading.stdout is not None
        wanted = sorted(set(range(1, played.items + 1)) - (dead or set()))
        wrong = 0
        for n in wanted:
            told = json.loads(reading.stdout.readline() or "null")
            wrong += told != {"item": n, "result": 2 * n}
        wrong += sum(1 for _ in reading.stdout)
        assert reading.wait() == 0
        told = f"  {len(wanted):,} results read back: wrong, lost or too many"
        return most(told, wrong, 0)


def write_items(path: Path, items: int, poison: dict[int, str]) -> None:
    with path.open("w") as file:
        for n in range(1, items + 1):
            how = f', "how": "{poison[n]}"' if n in poison else ""
            file.write(f'{{"n": {n}{how}}}\n')


def measure_trivial(bench: Bench) -> list[Row]:
    """
    Trivial items, and as many as one activity each allows.
    """
    bench.play("double", WARM_ITEMS)  # a newborn fleet is not what is measured
    played = bench.play("double", bench.args.items)
    whole = played.items / (played.ended - played.began)
    address = bench.home.server.address
    events = asyncio.run(count_events(address, played.batch)) / played.items
    saved = bench.play("save", SAVE_ITEMS)
    tell("stock Temporal")
    stock = stock_rate(address, bench.args.activities)
    return [
        least(f"{played.items:,} trivial items: items a second", played.rate, RATE),
        Row("  with the starter's own start and look at the file", f"{whole:,.0f}"),
        bench.right(played),
        most("  events an item, counted on the server", events, EVENTS, ".4f"),
        Row("  one activity an item, same server: items a second", f"{stock:,.0f}"),
        least("  times that", played.rate / stock, TIMES_STOCK, ".1f"),
        Row("  items that save once each: items a second", f"{saved.rate:,.0f}"),
        bench.right(saved),
    ]


async def count_events(address: str, batch: str) -> int:
    """
    Add up the histories of all runs of a batch.
    """
    client = await Client.connect(address)
    found = client.list_workflows(f"WorkflowId = '{batch}'")
    runs = [client.get_workflow_handle(batch, run_id=r.run_id) async for r in found]
    assert runs, "the server does not list the batch"
    return sum([(await each.describe()).history_length for each in runs])


def measure_work(bench: Bench) -> list[Row]:
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


def measure_kills(bench: Bench) -> list[Row]:
    """
    SIGKILL of a random agent process every 2 s.
    """
    rows = []
    for role, how in (("tally-wait", "wait"), ("tally-work", "compute")):
        plays = Path(bench.home.extra[PLAYS])
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


def kill_on(bench: Bench, killed: dict[int, float], starter: Starter) -> None:
    """
    Kill for as long as *starter* runs.
    """
    with every(KILL_EVERY_S, starter) as ticks:
        for _ in ticks:
            pids = bench.home.fleets[-1].pids("agents")
            if pids:
                pid = bench.dice.choice(pids)
                killed[pid] = time.time()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _judge_plays(plays: Path, killed: dict[int, float]) -> list[Row]:
    """
    Charge each repetition of an item to whoever had played it last.
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
        most(told, max(by_kills, default=0), UNWRITTEN_MOST),
        most("  items redone for any other reason", redone.total(), 0),
    ]


def _judge_takeovers(bench: Bench, batch: str, killed: dict[int, float]) -> list[Row]:
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
        # A lease that nobody takes up again had ended before the kill.
        seconds += [e.started_at - at for e in later if e.task == held][:1]
        others += [e.started_at - at for e in later][:1]
    assert seconds, "no kill hit a lease"
    told = f"  {len(seconds)} kills hit a lease: s until it is at work again"
    return [
        most(f"{told}, median", statistics.median(seconds), MEDIAN_S, ".3f"),
        most(f"{told}, p95", p95(seconds), P95_S, ".3f"),
        Row(f"{told}, worst", f"{max(seconds):.3f}"),
        Row("  s until any lease begins, median", f"{statistics.median(others):.3f}"),
    ]


def _attempts(bench: Bench, batch: str) -> list[Any]:
    store = Store(bench.home.path / "store.db")
    query = sa.select(attempts).where(
        attempts.c.mission == batch, attempts.c.task.startswith("lease-")
    )
    try:
        with store.read() as connection:
            return list(connection.execute(query.order_by(attempts.c.started_at)))
    finally:
        store.close()


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.95) - 1]


def measure_poison(bench: Bench) -> list[Row]:
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


def _judge_letters(bench: Bench, batch: str, poison: dict[int, str]) -> list[Row]:
    letters = bench.home.starter("dead-letters", batch, "--json").json
    causes = {each["item"]: each["cause"] for each in letters}
    true = {n for n, how in poison.items() if causes.get(n, "").startswith(CAUSES[how])}
    for n in causes.keys() - true:
        tell(f"{batch}: item {n}, {poison.get(n, 'sound')}: {causes[n]}")
    return [
        most("  dead letters", len(causes), len(poison)),
        least("  of them with the true cause", len(true), len(poison)),
    ]


def measure_two(bench: Bench) -> list[Row]:
    """
    A small batch for the same agent, begun while a huge one runs.
    """
    small: list[Played] = []

    def play_small(_: Starter) -> None:
        time.sleep(KILL_EVERY_S)
        small.append(bench.play("tally-wait", SMALL))

    huge = bench.play("tally-wait", bench.args.items, meanwhile=play_small)
    told = f"{SMALL} items beside {huge.items:,} of the same agent: s until they ended"
    (little,) = small
    return [
        most(told, little.ended - little.began, huge.ended - little.began, ".1f"),
        bench.right(little),
        bench.right(huge),
    ]


def measure_memory(bench: Bench) -> list[Row]:
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
        kind = kinds.get(pid, "zygotes")
        peaks.setdefault(kind, []).append((before[pid], after.get(pid, math.inf)))
    rows = [_grown(kind, pairs) for kind, pairs in peaks.items()]
    told = f"Memory of {FEW:,} items -> {many:,} at {played.rate:,.0f} a second"
    return [Row(told, ""), bench.right(played), *rows]


def _grown(kind: str, pairs: list[tuple[float, float]]) -> Row:
    """
    Judge the process that has grown most, in MB.
    """
    before, after = max(pairs, key=lambda pair: pair[1] - pair[0])
    allowed = before + max(GROWTH_SHARE * before, GROWTH_MB)
    return most(f"  {kind}: {before:.0f} MB ->", after, allowed, ".0f")


def fleet_mb(parent: int) -> dict[int, float]:
    """
    Tell the most memory that each process below *parent*, itself too, ever had.
    """
    found, todo = {}, [parent]
    while todo:
        pid = todo.pop()
        found[pid] = peak_mb(pid)
        for each in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += map(int, each.read_text().split())
    return found


def peak_mb(pid: int) -> float:
    """
    Read the most memory that a process ever had; 0 when it is gone.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "trivial": measure_trivial,
    "work": measure_work,
    "kills": measure_kills,
    "poison": measure_poison,
    "two": measure_two,
    "memory": measure_memory,
}


@contextmanager
def ground(args: argparse.Namespace) -> Iterator[Bench]:
    """
    A home with server and fleet that is gone afterwards.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        home = Home(folder, Server(folder, *choose_ports(None, None)))
        home.extra["OUTLAST_AGENTS"] = "benchmarks.pool_agents"
        home.extra[PLAYS] = str(folder / "plays")
        home.start_server()
        try:
            home.fleet(PROCESSES)
            yield Bench(home, args)
        finally:
            home.close()


def main() -> int:
    """
    Measure all parts and print the table.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--kills", type=int, default=15, help="at least so many")
    parser.add_argument("--activities", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    with ground(args) as bench:
        rows = [row for part in args.only for row in PARTS[part](bench)]
    print(f"{'':<64}{'measured':>12}{'bound':>12}")
    for row in rows:
        print(row)
    return int(any(row.held is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
