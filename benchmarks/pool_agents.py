"""
What the pool's benchmark plays: agents, and the same work by stock Temporal and by
processes that do nothing else.

    python -m benchmarks.pool_agents stock ADDRESS
    python -m benchmarks.pool_agents bare ITEMS
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from outlast import Context, agent

WORK_S = 0.02
TALLY_S = 0.001
LARGE_BYTES = 3_000_000
STOCK_QUEUE = "stock"
PROCESSES = 2
STOCK_LIMIT_S = 600.0
PLAYS_VARIABLE = "POOL_PLAYS"  # the variable that names the file of plays

How = Literal["", "raise", "kill", "hang", "large"]


class Number(BaseModel):
    """
    An item.
    """

    n: int
    how: How = ""


@agent("double")
async def double(item: Number, _: Context) -> int:
    return 2 * item.n


@agent("work")
async def work(item: Number, _: Context) -> int:
    """
    Use the processor between awaits, as an async agent may for a moment.
    """
    burn(WORK_S)
    return 2 * item.n


@agent("work-plainly")
def work_plainly(item: Number, _: Context) -> int:
    """
    The same in a thread, where long work belongs.
    """
    burn(WORK_S)
    return 2 * item.n


@agent("save")
async def save(item: Number, ctx: Context) -> int:
    """
    Save once, which claims the item a line in the ledger.
    """
    await ctx.save(item.n)
    return 2 * item.n


@agent("tally-work")
async def tally_work(item: Number, _: Context) -> int:
    tally(item.n)
    burn(TALLY_S)
    return 2 * item.n


@agent("tally-wait")
async def tally_wait(item: Number, _: Context) -> int:
    tally(item.n)
    await asyncio.sleep(TALLY_S)
    return 2 * item.n


@agent("moody")
async def moody(item: Number, _: Context) -> int | str:
    """
    Do next to nothing, unless the item is poison.
    """
    match item.how:
        case "raise":
            raise ValueError(f"poison {item.n}")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            await asyncio.Event().wait()
        case "large":
            return "x" * LARGE_BYTES
    return 2 * item.n


def burn(seconds: float) -> None:
    """
    Use *seconds* of this thread's processor time: wall time would count the waiting
    for a core as work, the process's time the pool's own threads.
    """
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def tally(number: int) -> None:
    """
    Append who plays which item, in one system call: the order of all processes' lines
    is that of the plays, and a SIGKILL loses none.
    """
    os.write(_plays(), b"%d %d\n" % (os.getpid(), number))


@cache
def _plays() -> int:
    return os.open(
        Path(os.environ[PLAYS_VARIABLE]), os.O_WRONLY | os.O_APPEND | os.O_CREAT
    )


@activity.defn
async def double_plainly(n: int) -> int:
    return 2 * n


@activity.defn
async def who() -> int:
    return os.getpid()


@workflow.defn
class Each:
    """
    One activity an item, all at once.
    """

    @workflow.run
    async def run(self, name: str, items: int) -> list[int]:
        limit = timedelta(minutes=10)
        given = [[n] if name == "double_plainly" else [] for n in range(items)]
        doing = [
            workflow.execute_activity(
                name, args=each, result_type=int, start_to_close_timeout=limit
            )
            for each in given
        ]
        return list(await asyncio.gather(*doing))


async def serve_stock(address: str) -> None:
    await Worker(
        await Client.connect(address),
        task_queue=STOCK_QUEUE,
        workflows=[Each],
        activities=[double_plainly, who],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ).run()


def work_barely(items: int) -> float:
    began = time.monotonic()
    for _ in range(items):
        burn(WORK_S)
    return time.monotonic() - began


def best_rate(items: int) -> float:
    """
    Have bare processes do the work of *items*; returns items a second.
    """
    each = items // PROCESSES
    started = [_begin("bare", str(each)) for _ in range(PROCESSES)]
    told = [float(process.communicate()[0]) for process in started]
    return PROCESSES * each / max(told)


def stock_rate(address: str, items: int) -> float:
    """
    Have two workers of their own play *items* activities; returns items a second.
    """
    workers = [_begin("stock", address) for _ in range(PROCESSES)]
    try:
        return asyncio.run(_stock_rate(address, items))
    finally:
        for each in workers:
            each.kill()
            each.communicate()


async def _stock_rate(address: str, items: int) -> float:
    client = await Client.connect(address)

    async def play(name: str, count: int) -> list[int]:
        id_ = f"stock-{time.time_ns()}"
        return await client.execute_workflow(
            Each.run, args=[name, count], id=id_, task_queue=STOCK_QUEUE
        )

    awake: set[int] = set()
    async with asyncio.timeout(STOCK_LIMIT_S):
        while len(awake) < PROCESSES:
            awake |= set(await play("who", 20))
        began = time.monotonic()
        done = await play("double_plainly", items)
        lasted = time.monotonic() - began
    assert done == [2 * n for n in range(items)]
    return items / lasted


def _begin(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.pool_agents", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    if sys.argv[1] == "stock":
        asyncio.run(serve_stock(sys.argv[2]))
    else:
        print(work_barely(int(sys.argv[2])))
