"""
The same agent on stock Temporal, as its documentation has it: an activity with a
heartbeat timeout that resumes from its heartbeat details. No ledger, no fleet.

    python -m testkit.stock_temporal worker ADDRESS
    python -m testkit.stock_temporal run ADDRESS SCRIPT-AS-JSON
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from testkit.processes import PROJECT_FOLDER

QUEUE = "stock"
HEARTBEAT_S = 1.0

Script = dict[str, Any]


@activity.defn
async def rehearse(script: Script) -> int:
    done = next(iter(activity.info().heartbeat_details), 0)
    _log(script, "start", done)
    for step in range(done + 1, script["steps"] + 1):
        await asyncio.sleep(script["step_seconds"])
        _log(script, "step", step)
        activity.heartbeat(step)
    if script.get("effect"):
        _log(script, "effect", script["steps"])
        await asyncio.sleep(script.get("effect_seconds", 0.0))
    _log(script, "end", script["steps"])
    return int(script["steps"])


def _log(script: Script, event: str, step: int) -> None:
    line = {
        "event": event,
        "task": script.get("task", "stock"),
        "key": script.get("effect"),
        "pid": os.getpid(),
        "attempt": activity.info().attempt,
        "step": step,
        "at": time.time(),
    }
    with Path(script["log"]).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


@workflow.defn
class StockRehearsal:
    """
    One activity.
    """

    @workflow.run
    async def run(self, script: Script) -> int:
        return await workflow.execute_activity(
            rehearse,
            script,
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
            start_to_close_timeout=timedelta(minutes=10),
            retry_policy=RetryPolicy(maximum_attempts=1000),
        )


def begin_stock(verb: str, address: str, *rest: str) -> subprocess.Popen[bytes]:
    """
    Start this program as a process of its own.
    """
    command = [sys.executable, "-m", "testkit.stock_temporal", verb, address, *rest]
    return subprocess.Popen(command, cwd=PROJECT_FOLDER, stderr=subprocess.DEVNULL)


async def _main(verb: str, address: str, *rest: str) -> None:
    client = await Client.connect(address)
    if verb == "worker":
        await Worker(
            client,
            task_queue=QUEUE,
            workflows=[StockRehearsal],
            activities=[rehearse],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ).run()
    else:
        await client.execute_workflow(
            StockRehearsal.run,
            json.loads(rest[0]),
            id=f"stock-{time.time_ns()}",
            task_queue=QUEUE,
        )


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
