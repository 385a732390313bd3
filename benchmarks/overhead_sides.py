"""
The two sides of benchmarks.overhead: the shipped fleet, and the same workers without
it.

    python -m benchmarks.overhead_sides KIND

is one bare worker, until its standard input ends.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NoReturn

from outlast.agents.agent_loading import load_agents
from outlast.execution.in_flight import NULL_REGISTRY
from outlast.fleet.process_kinds import ProcessKind, worker_identity
from outlast.fleet.workers import build_workers
from outlast.settings import settings
from outlast.store.database import Store
from outlast.temporal.connect import connect
from testkit import proc
from testkit.proc import children_of
from testkit.processes import PROJECT_FOLDER, Home

AGENT_PROCESSES = 2  # processes for agents, on either side

# Process ids by what they are part of.
Parts = dict[str, list[int]]
Start = Callable[[Home], AbstractContextManager[Parts]]


@contextmanager
def shipped(home: Home) -> Iterator[Parts]:
    fleet = home.fleet(processes=AGENT_PROCESSES)
    parent = fleet.process.pid
    parts: Parts = {"parent": [parent], "fork servers": children_of(parent)}
    for each in fleet.health()["processes"]:
        parts.setdefault(each["kind"], []).append(each["pid"])
    try:
        yield parts
    finally:
        fleet.stop()
        home.fleets.remove(fleet)


@contextmanager
def bare(home: Home) -> Iterator[Parts]:
    with ExitStack() as leaving:
        started = [
            (kind, leaving.enter_context(_bare_process(home, kind)))
            for kind in (ProcessKind.WORKFLOWS, *[ProcessKind.AGENTS] * AGENT_PROCESSES)
        ]
        parts: Parts = {}
        for kind, process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "polling\n", f"{kind} did not start"
            parts.setdefault(kind, []).append(process.pid)
        yield parts


@contextmanager
def _bare_process(home: Home, kind: ProcessKind) -> Iterator[subprocess.Popen[str]]:
    """
    Start a worker that ends when its standard input does, so with us at the latest.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.overhead_sides", kind],
        cwd=PROJECT_FOLDER,
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def work(kind: ProcessKind) -> NoReturn:
    """
    Be a bare worker of *kind* until standard input ends. It ends as a worker of the
    fleet does, by os._exit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(kind))
    os._exit(0)


async def _serve(kind: ProcessKind) -> None:
    store = Store(settings().store)
    client = await connect(identity=worker_identity(os.getpid(), kind))
    chosen = settings()
    agents = {} if kind is ProcessKind.WORKFLOWS else load_agents(chosen.modules)
    # What the fleet's process of this kind runs, without its flight recorder.
    workers = (
        await build_workers(kind, client, store, agents, chosen, NULL_REGISTRY)
    ).workers
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    print("polling", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*running)


def cpu_s(parts: Parts) -> dict[str, float]:
    """
    Read the CPU seconds, user and system, that each of *parts* has used so far.

    :raises FileNotFoundError: when one of the processes is gone.
    """
    return {part: sum(map(proc.cpu_s, pids)) for part, pids in parts.items()}


if __name__ == "__main__":
    work(ProcessKind(sys.argv[1]))
