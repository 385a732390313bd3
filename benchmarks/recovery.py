"""
How long until work goes on after each fault, and from which step.

    python -m benchmarks.recovery [--trials 100] [--long-trials 20] [--stock-timers]
                                  [--only kill fleet ...]

Every trial is a real fault on real processes; a figure is from the fault to the first
line of the next attempt, and `lost` counts completed steps that were done again. The
last rows are stock Temporal with a heartbeat timeout of 1 s, in the same run.
Exit code 1 says that a bound was missed.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.recovery_row import HEADING, RecoveryRow
from benchmarks.recovery_stock import StockTrials
from benchmarks.recovery_trials import RecoveryTrials
from outlast.dev import server_command
from testkit.postgres import Postgres, find_postgres
from testkit.processes import Home, running_home

FLEET_SETTINGS = {"OUTLAST_MEMORY_MB": "512", "OUTLAST_SLOTS": "8"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--long-trials", type=int, default=20)
    parser.add_argument("--stock-timers", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="kill kill-6 fleet ...")
    args = parser.parse_args()
    if args.stock_timers:
        server_command.DYNAMIC_CONFIG = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o711)  # PostgreSQL may run as another user
        with running_home(folder / "one", **FLEET_SETTINGS) as home:
            rows = _measure(home, folder, args.trials, args.long_trials, args.only)
        if not args.only or "host" in args.only:
            rows.append(_lose_host(folder, args.long_trials))
    timers = "stock timers" if args.stock_timers else "timers as shipped"
    print(f"\nseconds from the fault to the next attempt's first line ({timers})")
    print(HEADING)
    for row in rows:
        print(row)
    return int(not all(row.held for row in rows))


def _lose_host(folder: Path, trials: int) -> RecoveryRow:
    """
    Measure the loss of a host: another one can only go on where both have the store.
    """
    programs = find_postgres()
    assert programs is not None, "the row 'host' needs PostgreSQL: initdb is not found"
    postgres = Postgres(folder / "postgres", programs)
    postgres.make()
    postgres.start()
    try:
        shared = {"OUTLAST_DATABASE_URL": postgres.database()}
        with running_home(folder / "two", **FLEET_SETTINGS, **shared) as home:
            home.fleet(processes=3)
            row = RecoveryTrials(home, home.path).lose_fleet(trials, host_too=True)
    finally:
        postgres.stop("immediate")
    print(row, file=sys.stderr, flush=True)
    return row


def _measure(
    home: Home, folder: Path, trials: int, long_trials: int, only: list[str]
) -> list[RecoveryRow]:
    home.fleet(processes=3)
    on = RecoveryTrials(home, folder)
    plan: dict[str, Callable[[], RecoveryRow]] = {
        "kill": lambda: on.kill(trials),
        "kill-3": lambda: on.kill(trials, at_once=3),
        "kill-6": lambda: on.kill(trials, at_once=6),
        "freeze": lambda: on.freeze(long_trials),
        "segfault": lambda: on.misbehave("segfault", long_trials, 0.25),
        "block": lambda: on.misbehave("block", long_trials, 1.5),
        "burn": lambda: on.misbehave("burn", long_trials, 5.5),
        "memory": lambda: on.misbehave("memory", long_trials, 1.5),
        "workflows-idle": lambda: on.lose_workflows(long_trials, 0.5, "idle"),
        "workflows": lambda: on.lose_workflows(long_trials, 0.0, "at work"),
        "fleet": lambda: on.lose_fleet(long_trials, host_too=False),
        "drain": lambda: on.drain(max(1, long_trials // 5)),
    }
    stock = StockTrials(home.server.address, folder)
    for how in (signal.SIGKILL, signal.SIGSTOP):
        few = max(3, long_trials // 4)
        plan[f"stock-{how.name}"] = partial(stock.measure, few, how)
    rows = []
    for name, step in plan.items():
        if only and name not in only:
            continue
        rows.append(step())
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
