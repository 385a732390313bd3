"""
What the fleet costs while nothing fails: CPU seconds an attempt, with and without it.

    python -m benchmarks.overhead [--pairs 10]

One server, one load, two sides in turn. With the fleet: parent, fork servers, workers
with flight recorder and tick, and the quarantine process, which is idle here and counts
all the same. Bare: the same workers, one process for workflows and two for agents,
each started by itself; nothing watches them. The load
saves and saves, so that the agents' processes and not the server are what it waits for;
the columns `server` (its CPU, counted for neither side) and `cores` (kept busy by the
fleet's agents) show that. Exit code 1 says that the bound was missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from benchmarks.overhead_sides import (
    AGENT_PROCESSES,
    Parts,
    Start,
    bare,
    cpu_s,
    shipped,
)
from outlast.contracts.errors import UnavailableError
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report, TaskStatus
from outlast.contracts.tasks import Limits, Task
from outlast.dev.ports import choose_ports
from outlast.dev.server import SERVER_START_LIMIT_S, DevServer
from outlast.settings import settings
from outlast.store.database import Store
from outlast.temporal.client import Client as MissionClient
from outlast.temporal.connect import connect
from testkit.processes import Home

OVERHEAD_BOUND = 1.05  # the fleet's CPU seconds an attempt, over those without it

# A lap is one mission, as many tasks as the two processes have slots. The speed of a
# machine that is shared drifts by a fifth within seconds: short laps in turn see the
# same of it. All laps of one side of a pair take about 30 s of CPU.
LAPS = 16
OVERHEAD_STEPS = 200
WARM_LAPS, WARM_STEPS = 3, 40

IDLE_SETTLE_S = 3.0  # a fleet that has just started is busier than an idle one
IDLE_MEASURE_S = 10.0

NAMESPACE_KEPT = timedelta(days=1)


@dataclass
class OverheadSide:
    """
    One of the two, alive, and what its laps have used: CPU seconds by part.
    """

    home: Home
    parts: Parts
    used: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    attempts: int = 0
    wall_s: float = 0.0

    @property
    def attempt_s(self) -> float:
        return sum(self.used[part] for part in self.parts) / self.attempts

    def lap(self) -> None:
        server = self.home.server.process
        assert server is not None
        watched = {**self.parts, "server": [server.pid]}
        before, began = cpu_s(watched), time.monotonic()
        self.attempts += do_mission(self.home, OVERHEAD_STEPS)
        self.wall_s += time.monotonic() - began
        after = cpu_s(watched)
        for part in watched:
            self.used[part] += after[part] - before[part]


@contextmanager
def warm(start_side: Start, home: Home) -> Iterator[OverheadSide]:
    """
    Have a side whose every process has begun and ended attempts.
    """
    with start_side(home) as parts:
        for _ in range(WARM_LAPS):
            do_mission(home, WARM_STEPS)
        yield OverheadSide(home, parts)


def do_mission(home: Home, steps: int) -> int:
    """
    Have one attempt done for each slot there is; returns how many those were.

    :raises AssertionError: when a task took more than one attempt, which would be a
        measurement of something else.
    """
    slots = AGENT_PROCESSES * settings().slots
    mission = Mission(
        id=f"peace-{time.time_ns()}",
        goal="rehearse",
        tasks=[
            Task(id=f"t{at}", role="rehearse", input={"steps": steps})
            for at in range(slots)
        ],
        limits=Limits(concurrency=slots),
    )
    for task in asyncio.run(_conduct(home, mission)).tasks:
        assert (task.status, task.attempts) == (TaskStatus.DONE, 1), task
    return slots


async def _conduct(home: Home, mission: Mission) -> Report:
    client = await Client.connect(
        home.server.address,
        namespace=home.extra["TEMPORAL_NAMESPACE"],
        data_converter=pydantic_data_converter,
    )
    store = Store(home.path / "store.db")
    try:
        started = await MissionClient(client, store).start(mission)
        return await started.result()
    finally:
        store.close()


def own_home(name: str, server: DevServer) -> Home:
    """
    Make a home with a store and a namespace of its own, so that both sides may live
    on *server* and neither gets the other's tasks.
    """
    asyncio.run(_register(name, server.address))
    return Home(server.home / name, server, {"TEMPORAL_NAMESPACE": name})


async def _register(namespace: str, address: str) -> None:
    client = await _healthy(address)
    request = RegisterNamespaceRequest(namespace=namespace)
    request.workflow_execution_retention_period.FromTimedelta(NAMESPACE_KEPT)
    await client.workflow_service.register_namespace(request)


async def _healthy(address: str) -> Client:
    """
    Connect to a server that listens, perhaps a moment before it is healthy.
    """
    async with asyncio.timeout(SERVER_START_LIMIT_S):
        while True:
            try:
                return await connect(address)
            except UnavailableError:
                await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as place:
        server = DevServer(Path(place), *choose_ports(None, None))
        asyncio.run(server.start())
        try:
            return _measure(own_home("fleet", server), own_home("bare", server), pairs)
        finally:
            server.stop()


def _measure(with_fleet: Home, without: Home, pairs: int) -> int:
    told = ", ".join(f"{part} {cpu:.4f}" for part, cpu in _idle(with_fleet).items())
    print(f"idle fleet, CPU seconds a second: {told}")
    print(
        f"\nCPU milliseconds an attempt of {OVERHEAD_STEPS} saved steps, "
        f"{LAPS} laps a side"
    )
    print(
        f"{'pair':<6}{'fleet':>8}{'bare':>8}{'ratio':>8}"
        f"{'parent':>10}{'fork servers':>13}{'quarantine':>12}{'server':>8}{'cores':>8}"
    )
    ratios = []
    for number in range(1, pairs + 1):
        fleet, plain = _pair(with_fleet, without, fleet_first=bool(number % 2))
        ratios.append(fleet.attempt_s / plain.attempt_s)
        print(f"{number:<6}{_row(fleet, plain)}", flush=True)
    median = statistics.median(ratios)
    verdict = "ok" if median <= OVERHEAD_BOUND else "MISSED"
    print(f"\nmedian ratio {median:.3f}, bound {OVERHEAD_BOUND:g}  {verdict}")
    return int(median > OVERHEAD_BOUND)


def _pair(
    with_fleet: Home, without: Home, fleet_first: bool
) -> tuple[OverheadSide, OverheadSide]:
    """
    Have both sides do their laps in turn, the order turned over after each.
    """
    with warm(shipped, with_fleet) as fleet, warm(bare, without) as plain:
        order = [fleet, plain] if fleet_first else [plain, fleet]
        for _ in range(LAPS):
            for side in order:
                side.lap()
            order.reverse()
        return fleet, plain


def _row(fleet: OverheadSide, plain: OverheadSide) -> str:
    parts = [
        fleet.used[part] for part in ("parent", "fork servers", "quarantine", "server")
    ]
    in_ms = [part / fleet.attempts * 1000 for part in parts]
    return (
        f"{fleet.attempt_s * 1000:>8.1f}{plain.attempt_s * 1000:>8.1f}"
        f"{fleet.attempt_s / plain.attempt_s:>8.3f}"
        f"{in_ms[0]:>10.2f}{in_ms[1]:>13.2f}{in_ms[2]:>12.2f}{in_ms[3]:>8.1f}"
        f"{fleet.used['agents'] / fleet.wall_s:>8.2f}"
    )


def _idle(home: Home) -> dict[str, float]:
    with warm(shipped, home) as fleet:
        time.sleep(IDLE_SETTLE_S)
        before = cpu_s(fleet.parts)
        time.sleep(IDLE_MEASURE_S)
        after = cpu_s(fleet.parts)
    return {part: (after[part] - before[part]) / IDLE_MEASURE_S for part in fleet.parts}


if __name__ == "__main__":
    sys.exit(main())
