"""
What large and long missions cost: a task in a plan of 5,000 beside one of 50, memory,
and the history of thousands of rounds.

    python -m benchmarks.large_missions [--tasks 5000] [--rounds 3000]

One process with the supervisor and the agents on an embedded server of its own. The
missions are in turn small, large and small again, since a shared machine drifts. The
rounds run beside an attempt that does not end and a child that waits for a person, so
that no quiet moment comes by itself. Exit code 1 says that a bound was missed.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from benchmarks.result_rows import ResultRow
from outlast.agents.agent import Agent
from outlast.agents.agent_loading import resolve_routes
from outlast.agents.context import Context
from outlast.contracts.ids import MISSIONS_QUEUE, ChildMissionId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.contracts.results import Redo
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.contracts.updates import DecisionInput
from outlast.dev.ports import choose_ports
from outlast.dev.server import DevServer
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.workers import AgentWorkers, workflow_worker
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.settings import Settings
from outlast.store.database import Store
from outlast.temporal.connect import connect
from outlast.temporal.payload_storage import with_storage
from testkit.proc import memory_mb

FEW = 50
TIMES = 1.5  # a task's cost among many, over that among few
GROWTH_MB = 20.0
EVENTS, MEGABYTES = 10_240, 10.0
PAIRS = 8  # of writer and reviewer, at the same time


@dataclass
class ReviewRounds:
    """
    Work that is rejected again and again.
    """

    each: int
    written: Counter[int] = field(default_factory=Counter)
    resumed: list[int] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, given: dict[str, Any], ctx: Context) -> int:
        self.written[given["pair"]] += 1
        if self.written.total() >= self.each * PAIRS:
            self.over.set()
        return ctx.round

    async def review(self, given: dict[str, Any], ctx: Context) -> int | Redo:
        ((target, number),) = given["needs"].items()
        done = number >= self.each
        return number if done else Redo(task=target, reason="again")

    async def last(self, given: dict[str, Any], ctx: Context) -> str:
        done = await ctx.resume(int, 0)
        self.resumed.append(done)
        await ctx.save(done + 1)
        await self.over.wait()
        return "done"


async def well(_given: dict[str, Any], _ctx: Context) -> str:
    return "well"


@dataclass
class LargeMissionBench:
    """
    The missions of one store, and who works on them.
    """

    client: Client
    store: Store
    agents: dict[str, Agent]

    async def start(self, mission: Mission) -> WorkflowHandle[Any, Report]:
        records = MissionRecords(self.store)
        records.open(mission)
        handle: WorkflowHandle[Any, Report] = await self.client.start_workflow(
            "Supervisor",
            mission,
            id=mission.id,
            task_queue=MISSIONS_QUEUE,
            result_type=Report,
        )
        records.accept(mission.id)
        return handle

    def mission(self, name: str, tasks: list[Task], limits: Limits) -> Mission:
        return Mission(
            id=name,
            goal="measure",
            tasks=tasks,
            limits=limits,
            crew=resolve_routes(self.agents),
            store=self.store.id,
        )

    async def histories(self, mission: str) -> list[tuple[int, float]]:
        found = []
        query = f"WorkflowId = '{mission}'"
        async for run in self.client.list_workflows(query):
            handle = self.client.get_workflow_handle(mission, run_id=run.run_id)
            info = (await handle.describe()).raw_description.workflow_execution_info
            found.append((info.history_length, info.history_size_bytes / 1e6))
        return found


@asynccontextmanager
async def bench(rounds: ReviewRounds) -> AsyncIterator[LargeMissionBench]:
    """
    A server, a worker for missions and one for each role, all in this process.
    """
    patient = Policy(failures=1, crashes=1, stall_s=3_600)
    agents = {
        "well": Agent("well", 1, well),
        "write": Agent("write", 1, rounds.write),
        "review": Agent("review", 1, rounds.review),
        "last": Agent("last", 1, rounds.last, policy=patient),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.db")
        server = DevServer(Path(folder), *choose_ports(None, None))
        await server.start()
        try:
            client = with_storage(await connect(server.address), lambda: store)
            place, chosen = (
                WorkerContext(Ledger(store), DEFAULT_TIMING.heartbeat_s),
                Settings(slots=20),
            )
            workers = [
                AgentWorkers(client, place, chosen).tasks(each)
                for each in agents.values()
            ]
            async with workflow_worker(client, store, unfilled):
                running = [asyncio.create_task(each.run()) for each in workers]
                yield LargeMissionBench(client, store, agents)
                await asyncio.gather(*(each.shutdown() for each in workers))
                await asyncio.gather(*running)
        finally:
            server.stop()
            store.close()


async def unfilled(mission: Mission) -> Any:
    raise AssertionError(mission)


async def cost_ms(on: LargeMissionBench, name: str, size: int) -> float:
    """
    Run a mission of *size* tasks, every other one behind an earlier one; returns a
    task's milliseconds of CPU, the agents' included.
    """
    tasks = [
        Task(
            id=f"t{at}",
            role="well",
            needs=[f"t{at - FEW}"] if at >= FEW and at % 2 else [],
        )
        for at in range(size)
    ]
    limits = Limits(tasks=max(size, FEW), depth=5_000)
    began = time.process_time()
    report = await (await on.start(on.mission(name, tasks, limits))).result()
    assert report.status is MissionStatus.COMPLETED
    return 1_000 * (time.process_time() - began) / size


async def many_tasks(on: LargeMissionBench, size: int) -> list[ResultRow]:
    await cost_ms(on, "warm", FEW)
    before = [await cost_ms(on, f"few{at}", FEW) for at in range(5)]
    samples: list[float] = []
    sampling = asyncio.create_task(sample_mb(samples))
    many = await cost_ms(on, "many", size)
    sampling.cancel()
    half = len(samples) // 2
    grown_mb = max(samples[half:]) - max(samples[: half or 1])
    after = [await cost_ms(on, f"few-again{at}", FEW) for at in range(5)]
    few = statistics.median([*before, *after])
    return [
        ResultRow(f"a task, in a mission of {FEW}", [*before, *after], unit="ms CPU"),
        ResultRow(
            f"a task, in a mission of {size}", [many], round(TIMES * few, 1), "ms CPU"
        ),
        ResultRow("memory, more in its second half", [grown_mb], GROWTH_MB, "MB"),
        ResultRow("memory at most, agents included", [max(samples)], unit="MB"),
        *await history(on, "many", f"{size} tasks"),
    ]


async def many_rounds(on: LargeMissionBench, rounds: ReviewRounds) -> list[ResultRow]:
    inner = {"id": "a", "role": "well", "approval": {"before": "start"}}
    tasks = [
        Task(id="last", role="last"),
        Task(id="child", role="mission", input={"goal": "wait", "tasks": [inner]}),
    ]
    for pair in range(PAIRS):
        tasks += [
            Task(id=f"w{pair}", role="write", input={"pair": pair}),
            Task(id=f"r{pair}", role="review", needs=[f"w{pair}"]),
        ]
    limits = Limits(redos=rounds.each, concurrency=100)
    began = time.monotonic()
    handle = await on.start(on.mission("rounds", tasks, limits))
    await rounds.over.wait()
    child = on.client.get_workflow_handle(str(ChildMissionId("rounds", "child")))
    await child.execute_update("approve", DecisionInput(task="a"))
    report = await handle.result()
    took_s = time.monotonic() - began
    assert report.status is MissionStatus.COMPLETED, report
    lost = sum(abs(each - rounds.each) for each in rounds.written.values())
    repeated = len(rounds.resumed) - len(set(rounds.resumed))
    told = f"{rounds.each * PAIRS} rounds"
    return [
        ResultRow(f"{told}, one after the other 8 at a time", [took_s]),
        ResultRow("rounds that were lost or done twice", [float(lost)], 0.0, ""),
        ResultRow("steps beside them that were done twice", [float(repeated)], 0.0, ""),
        *await history(on, "rounds", told),
    ]


async def history(on: LargeMissionBench, mission: str, told: str) -> list[ResultRow]:
    runs = await on.histories(mission)
    return [
        ResultRow(
            f"{told}: events of a run", [float(each) for each, _ in runs], EVENTS, ""
        ),
        ResultRow(
            f"{told}: history of a run", [size for _, size in runs], MEGABYTES, "MB"
        ),
    ]


async def sample_mb(samples: list[float]) -> None:
    while True:
        samples.append(memory_mb(os.getpid()))
        await asyncio.sleep(0.5)


async def measure(tasks: int, rounds: int) -> list[ResultRow]:
    work = ReviewRounds(each=max(1, rounds // PAIRS))
    async with bench(work) as on:
        rows = await many_tasks(on, tasks) if tasks else []
        return [*rows, *(await many_rounds(on, work) if rounds else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3_000)
    told = parser.parse_args()
    rows = asyncio.run(measure(told.tasks, told.rounds))
    print(*rows, sep="\n")
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
