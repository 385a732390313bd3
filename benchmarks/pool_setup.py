"""
The ground of the pool's benchmark: a fleet, batches played on it, and rows of figures.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.pool_agents import PLAYS_VARIABLE, PROCESSES
from benchmarks.result_rows import TableRow, most
from testkit.proc import family, peak_mb
from testkit.processes import Home, temporary_home

POOL_LIMIT_S = 1800.0
POOL_CHECK_S = 0.05


Starter = subprocess.Popen[str]


@dataclass(frozen=True)
class PlayedBatch:
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
class PoolBench:
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
    ) -> PlayedBatch:
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
            assert time.time() < began + POOL_LIMIT_S, f"{batch} does not end"
            peak = max(peak, peak_mb(starter.pid))
            time.sleep(POOL_CHECK_S)
        ended = time.time()
        out, err = starter.communicate()
        assert starter.returncode == 0, err
        print_progress(f"{batch}: {items:,} items in {ended - began:.1f} s")
        return PlayedBatch(batch, items, json.loads(out), began, ended, peak)

    def right(self, played: PlayedBatch, dead: set[int] | None = None) -> TableRow:
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


def fleet_mb(parent: int) -> dict[int, float]:
    return {pid: peak_mb(pid) for pid in family(parent)}


def print_progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


@contextmanager
def pool_bench(args: argparse.Namespace) -> Iterator[PoolBench]:
    with temporary_home() as home:
        home.extra["OUTLAST_AGENTS"] = "benchmarks.pool_agents"
        home.extra["OUTLAST_LARGEST_MB"] = "1"  # for the item that is too large
        home.extra[PLAYS_VARIABLE] = str(home.path / "plays")
        home.fleet(PROCESSES)
        yield PoolBench(home, args)
