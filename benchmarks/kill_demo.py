"""
The demonstration: the same agent, killed the same way, on Outlast and on stock
Temporal (heartbeat timeout 1 s, no ledger), side by side.

    python -m benchmarks.kill_demo        or: make kill

Every line is read from what the processes did.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.processes import Home, events, mission, rehearsal, temporary_home
from testkit.stock_temporal import begin_stock

DEMO_STEPS = 12
DEMO_STEP_S = 0.25
KILL_AFTER = 5  # steps
EFFECT_S = 1.0  # the far side answers so long after it has acted
STOCK_BOOT_S = 3.0


@dataclass
class DemoSide:
    """
    One of the two, and its log.
    """

    name: str
    log: Path
    killed_at: float = 0.0
    killed_in_effect_at: float = 0.0

    def recovery_s(self, killed_at: float) -> float | None:
        later = [each["at"] for each in events(self.log, "start")]
        return next((at - killed_at for at in later if at > killed_at), None)

    @property
    def repeated(self) -> int:
        steps = Counter(each["step"] for each in events(self.log, "step"))
        return sum(times - 1 for times in steps.values())

    @property
    def posted(self) -> int:
        return len(events(self.log, "effect"))

    @property
    def ended(self) -> bool:
        return bool(events(self.log, "end"))


def main() -> int:
    with temporary_home() as home:
        stock: list[subprocess.Popen[bytes]] = []
        try:
            print(f"Web UI {home.server.ui}; starting two fleets ...", flush=True)
            ours, theirs = _start(home, home.path, stock)
            _kill_both(ours, theirs, stock, home)
            _print_comparison(ours, theirs)
            _invite()
        finally:
            for process in stock:
                process.kill()
    return int(not (ours.ended and ours.posted == 1))


def _start(
    home: Home, folder: Path, stock: list[subprocess.Popen[bytes]]
) -> tuple[DemoSide, DemoSide]:
    home.fleet(processes=2)
    for _ in range(2):
        stock.append(begin_stock("worker", home.server.address))
    time.sleep(STOCK_BOOT_S)  # it has no way to say that it polls
    ours = DemoSide("Outlast", folder / "outlast.jsonl")
    theirs = DemoSide("stock Temporal", folder / "stock.jsonl")
    script: dict[str, Any] = {
        "steps": DEMO_STEPS,
        "step_seconds": DEMO_STEP_S,
        "effect": "refund:order-17",
        "effect_seconds": EFFECT_S,
    }
    task = rehearsal("demo", ours.log, **script)
    home.begin("run", mission(folder / "demo.yaml", [task], id="demo"), "--json")
    given = json.dumps({**script, "log": str(theirs.log)})
    stock.append(begin_stock("run", home.server.address, given))
    return ours, theirs


def _kill_both(
    ours: DemoSide, theirs: DemoSide, stock: list[subprocess.Popen[bytes]], home: Home
) -> None:
    """
    Kill each side's process in the middle of a step, and again when its effect has
    happened and is not recorded yet; start a new stock worker for each dead one.
    """
    waiting: list[tuple[DemoSide, str]] = [(ours, "step"), (theirs, "step")]
    waiting += [(ours, "effect"), (theirs, "effect")]
    deadline = time.monotonic() + 90
    while not (ours.ended and theirs.ended) and time.monotonic() < deadline:
        for side, kind in list(waiting):
            if pid := _due(side, kind):
                waiting.remove((side, kind))
                _kill(side, kind, pid)
                if side is theirs:
                    stock.append(begin_stock("worker", home.server.address))
        time.sleep(0.02)


def _due(side: DemoSide, kind: str) -> int | None:
    found = events(side.log, kind)
    if kind == "step" and len(found) < KILL_AFTER:
        return None
    return int(found[-1]["pid"]) if found else None


def _kill(side: DemoSide, kind: str, pid: int) -> None:
    time.sleep(DEMO_STEP_S / 3)  # into the next step, or into the far side's silence
    os.kill(pid, signal.SIGKILL)
    if kind == "step":
        side.killed_at = time.time()
    else:
        side.killed_in_effect_at = time.time()
    where = "mid-step" if kind == "step" else "between effect and record"
    print(f"kill -9 {pid:<8} {side.name}, {where}", flush=True)


def _print_comparison(ours: DemoSide, theirs: DemoSide) -> None:
    rows: list[tuple[str, Callable[[DemoSide], Any]]] = [
        ("killed mid-step, at work again after", _seconds("killed_at")),
        ("killed in the effect, at work again after", _seconds("killed_in_effect_at")),
        ("steps done again", lambda side: side.repeated),
        ("refunds posted", lambda side: side.posted),
        ("finished", lambda side: "yes" if side.ended else "no"),
    ]
    print(f"\n{'':<44}{ours.name:>16}{theirs.name:>16}")
    for what, look in rows:
        print(f"{what:<44}{look(ours)!s:>16}{look(theirs)!s:>16}")


def _seconds(kill: str) -> Callable[[DemoSide], str]:
    def look(side: DemoSide) -> str:
        found = side.recovery_s(getattr(side, kill))
        return f"{found:.2f} s" if found is not None else "never"

    return look


def _invite() -> None:
    print(
        "\nNow you: `make dev` in one terminal, in another\n"
        "    .venv/bin/python starter.py run examples/missions/long.yaml --embedded\n"
        "then `kill -9` any worker that `make dev` has listed, and\n"
        "    .venv/bin/python starter.py explain MISSION"
    )


if __name__ == "__main__":
    sys.exit(main())
