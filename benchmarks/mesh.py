"""
What the peer mesh does when peers die, freeze or are cut off, and what it costs.

    python -m benchmarks.mesh [--only lost frozen split slow quiet storm]
                              [--trials 20] [--minutes 10] [--tasks 1000] [--seed N]

Five peers, each a whole fleet with its own server, in network namespaces of their
own, so it wants root and iproute2; peers speak encrypted. A death is SIGKILL of every
process of a peer, its server too; a split is their cables on other switches. Exit code
1 says that a bound was missed.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.mesh_idle_cost import QUIET_S, costs, history
from benchmarks.mesh_setup import MESH_STEP_S, MeshBench
from benchmarks.mesh_storm import EVERY_S, run_storm
from benchmarks.result_rows import ResultRow
from outlast.contracts.ids import MeshRunId
from testkit.networks import Net, can_split
from testkit.peers import Peer, equal, peers, running
from testkit.processes import (
    PROJECT_FOLDER,
    events,
    next_event,
    wait_for,
)

PEER_NAMES = "abcde"
KNOW_BOUND_S = 2.0
RUN_BOUND_S = 3.0
HEAL_BOUND_S = 5.0
ALTERNATION_S = 0.3
FREEZE_S = 10.0
WOKEN_S = 5.0  # a woken agent would have written fifty lines by then


def lost(bench: MeshBench, trials: int) -> None:
    """
    SIGKILL one peer whole, with work in hand.
    """
    known: list[float] = []
    again: list[float] = []
    redone: list[float] = []
    for _ in range(trials):
        (task,) = bench.at_work(1, steps=10_000)
        peer = bench.owner(task)
        others = [each for each in bench.peers if each is not peer]
        time.sleep(bench.dice.uniform(0.0, 1.0))
        killed_at = time.time()
        peer.kill()
        known += seen_by(others, peer.name, killed_at)
        start = next_event(bench.log(task), "start", killed_at, "the task elsewhere")
        again.append(start["at"] - killed_at)
        before = [e for e in events(bench.log(task), "step") if e["at"] <= killed_at]
        redone.append(before[-1]["step"] - start["step"])
        end(bench, task)
        peer.start()
        peer.wait_until_ready()
        bench.healthy()
    bench.add("a peer lost: each survivor knows", known, KNOW_BOUND_S)
    bench.add("a peer lost: its task runs elsewhere", again, RUN_BOUND_S)
    bench.add(f"  steps of {MESH_STEP_S:g} s done again", redone, None, "steps")


def seen_by(others: list[Peer], name: str, since: float) -> list[float]:
    """
    Measure when each of *others* no longer sees *name*.
    """
    waiting, found = list(others), []
    deadline = time.monotonic() + 30
    while waiting and time.monotonic() < deadline:
        for each in list(waiting):
            if name not in each.sees():
                found.append(time.time() - since)
                waiting.remove(each)
        time.sleep(0.01)
    assert not waiting, "a survivor never knew"
    return found


def end(bench: MeshBench, task: str) -> None:
    """
    Cancel the task where it runs: its steps are not what is measured.
    """
    first, second = bench.peers[:2]
    told = first.ask("status", task=task) or second.ask("status", task=task)
    owner = next(each for each in bench.peers if each.name == told["owner"])
    cancel = ["starter.py", "cancel", str(MeshRunId(task, told["epoch"]))]
    subprocess.run(
        [*owner.inside, sys.executable, *cancel],
        cwd=PROJECT_FOLDER,
        env=owner.environment,
        capture_output=True,
        check=False,
    )


def frozen(bench: MeshBench, trials: int) -> None:
    """
    Hold one peer still with work in hand, and see what it writes when it wakes.
    """
    late: list[float] = []
    back: list[float] = []
    for _ in range(trials):
        (task,) = bench.at_work(1, steps=10_000)
        peer = bench.owner(task)
        frozen_at = time.time()
        with peer.frozen():
            time.sleep(FREEZE_S)
        woken_at = time.time()
        bench.healthy()
        back.append(time.time() - woken_at)
        time.sleep(WOKEN_S)
        written = events(bench.log(task), "start", "step", "end")
        ours = {each["pid"] for each in written if each["at"] < frozen_at}
        stale = [e for e in written if e["at"] > woken_at and e["pid"] in ours]
        assert any(frozen_at < each["at"] < woken_at for each in written)
        late.append(float(len(stale)))
        end(bench, task)
    bench.add(f"a peer frozen for {FREEZE_S:g} s: lines it wrote woken", late, 0, "")
    bench.add("  seconds until it is whole again", back)


def split(bench: MeshBench, trials: int) -> None:
    """
    Cut the mesh into parts with work in hand, let each work on, and heal it.
    """
    for what, parts in (("3 and 2", ["abc", "de"]), ("five singles", list(PEER_NAMES))):
        seconds = []
        for _ in range(trials):
            bench.healthy()
            tasks = bench.at_work(3, steps=40)
            bench.net.split(*parts)
            own = [bench.submit(group(bench, part)[0], steps=5) for part in parts]
            for part, task in zip(parts, own, strict=True):
                assert task is not None
                bench.done([*tasks, task], group(bench, part))
            seconds.append(heal(bench, parts))
            bench.done([*tasks, *filter(None, own)], bench.peers)
            assert_one_projection(bench)
        bench.add(f"split {what}, healed: all logs equal", seconds, HEAL_BOUND_S)


def group(bench: MeshBench, names: str) -> list[Peer]:
    return [each for each in bench.peers if each.name in names]


def heal(bench: MeshBench, parts: list[str]) -> float:
    """
    Put the parts together in random order; returns how long all logs take to be equal
    after the last.
    """
    order = bench.dice.sample(parts, len(parts))
    for number in range(1, len(order)):
        bench.net.split("".join(order[: number + 1]), *order[number + 1 :])
        if number < len(order) - 1:
            time.sleep(bench.dice.uniform(0.0, 1.0))
    healed_at = time.monotonic()
    wait_for(lambda: equal(bench.peers), "equal logs", 60)
    return time.monotonic() - healed_at


def assert_one_projection(bench: MeshBench) -> None:
    first, *others = [each.ask("status") for each in bench.peers]
    assert all(each == first for each in others), "peers disagree on the results"


def slow(bench: MeshBench, minutes: float) -> None:
    """
    Stop one peer for 0.3 s again and again, with hogs beside it, and count its deaths.
    """
    before = deaths(bench)
    hogs = [hog() for _ in range(2)]
    pulses, end_at = 0, time.monotonic() + minutes * 60
    try:
        while time.monotonic() < end_at:
            with bench.peers[0].frozen():
                time.sleep(ALTERNATION_S)
            pulses += 1
            time.sleep(bench.dice.uniform(0.5, 1.5))
    finally:
        for each in hogs:
            each.kill()
    told = f"false deaths in {minutes:g} min, {pulses} pulses of 0.3 s, 2 hogs"
    bench.add(told, [float(deaths(bench) - before)], 0, "deaths")


def hog() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


def deaths(bench: MeshBench) -> int:
    return sum((each.ask("counts") or {"deaths": 0})["deaths"] for each in bench.peers)


def quiet(bench: MeshBench) -> None:
    """
    Count what a server's histories grow by while nothing is asked for.
    """
    bench.healthy()
    before = sum(map(history, bench.peers))
    time.sleep(QUIET_S)
    grown = sum(map(history, bench.peers)) - before
    bench.add(f"history events in {QUIET_S:g} s of quiet", [grown], 0, "events")


def storm(bench: MeshBench, tasks: int) -> None:
    """
    Hand in many of the lightest tasks, of one step without any work, to random peers
    while one after the other dies and returns.
    """
    bench.healthy()
    told = run_storm(
        bench.peers, lambda to: bench.submit(to, steps=1, step_s=0), tasks, bench.dice
    )
    for task, states in list(told.left.items())[:10]:
        print(f"left: {task} {states}", flush=True)
    runs = [float(len(events(bench.log(task), "start"))) for task in told.tasks]
    bench.add(f"storm: {tasks} tasks, {told.deaths} deaths", [told.seconds])
    bench.add("  seconds between two deaths", told.gaps, 1.2 * EVERY_S)
    bench.add("  seconds until a peer is back", told.returns)
    bench.add("  times that a task was begun", runs, None, "times")
    bench.add("  tasks without one result", [len(told.left)], 0, "tasks")


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    reader.add_argument("--only", nargs="*", default=[])
    reader.add_argument("--trials", type=int, default=20)
    reader.add_argument("--minutes", type=float, default=10.0)
    reader.add_argument("--tasks", type=int, default=1000)
    reader.add_argument("--seed", type=int, default=random.randrange(10_000))
    told = reader.parse_args()
    if not can_split():
        print("this benchmark makes networks: run it as root on Linux, with iproute2")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {told.seed}")
    with tempfile.TemporaryDirectory(prefix="outlast-mesh-") as folder:
        rows = measure(told, Path(folder))
    return 0 if all(each.held for each in rows) else 1


def measure(told: argparse.Namespace, folder: Path) -> list[ResultRow]:
    rows: list[ResultRow] = []
    wanted = told.only or ["lost", "frozen", "split", "slow", "quiet", "storm"]
    heading = f"{'':48} {'n':>4} {'median':>9} {'p95':>9} {'worst':>9} {'':10} bound"
    print(heading)
    if "quiet" in wanted:
        for row in costs(folder):
            print(row, flush=True)
            rows.append(row)
    parts: dict[str, Callable[[MeshBench], None]] = {
        "lost": lambda bench: lost(bench, told.trials),
        "frozen": lambda bench: frozen(bench, max(1, told.trials // 5)),
        "split": lambda bench: split(bench, max(1, told.trials // 5)),
        "slow": lambda bench: slow(bench, told.minutes),
        "quiet": quiet,
        "storm": lambda bench: storm(bench, told.tasks),
    }
    with Net(PEER_NAMES) as net, running(peers(folder, PEER_NAMES, net)) as made:
        bench = MeshBench(net, made, folder, random.Random(told.seed), rows)
        for name in wanted:
            parts[name](bench)
    return rows


if __name__ == "__main__":
    sys.exit(main())
