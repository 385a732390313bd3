"""
One worker process: hosts agents, or workflows, and tells its parent what it does.

It reads its parent's end of a pipe: when that closes, the parent is gone and the
child drains. It ends by os._exit, since an interpreter that is torn down with
attempts pending aborts.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TextIO

from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import (
    SandboxedWorkflowRunner,
    SandboxRestrictions,
)

from activities.registrar import close_mission
from outlast.attempt.agent import Agent, load
from outlast.attempt.guard import Place
from outlast.attempt.host import host
from outlast.attempt.ledger import Ledger
from outlast.contracts.errors import OutlastError, UnavailableError
from outlast.contracts.models import MISSIONS_QUEUE, queue_of
from outlast.contracts.policies import SHIPPED
from outlast.runtime.connect import connect
from outlast.runtime.settings import Settings, settings
from outlast.store.database import Store, share
from workflows.supervisor import SupervisorWorkflow

AGENTS = "agents"
WORKFLOWS = "workflows"

# Without a name of the build each Worker hashes every loaded module: 0.6 s.
BUILD_ID = "outlast"

# Our own modules are deterministic by construction and checked by replay; loading
# them anew for every workflow would cost half a second each.
PASSED_THROUGH = (
    "outlast",
    "workflows",
    "pydantic",
    "pydantic_core",
    "annotated_types",
)

CONNECT_AGAIN_S = 0.2

logger = logging.getLogger("outlast.fleet")


@dataclass
class Signs:
    """
    What the child tells its parent: one JSON line each.
    """

    pipe: TextIO

    def give(self, sign: str) -> None:
        """
        Tell it; a parent that is gone does not matter here.
        """
        with contextlib.suppress(OSError):
            print(json.dumps({"sign": sign, "pid": os.getpid()}), file=self.pipe)
            self.pipe.flush()


def main(kind: str) -> None:
    """
    Run until told to stop, then end the process.
    """
    signs = Signs(_take_stdout())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, by SIGTERM
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(message)s")
    code = 1
    try:
        asyncio.run(_serve(kind, signs))
        code = 0
    except OutlastError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        code = 2
    except BaseException:
        logger.exception("child.failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _serve(kind: str, signs: Signs) -> None:
    stop = _stop_signal()
    chosen = settings()
    store = Store(chosen.store_path)
    share(store)
    client = await _connect(kind, stop)
    if client is None:
        return
    workers = _workers(kind, client, store, chosen)
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    signs.give("polling")
    stopping = asyncio.ensure_future(stop.wait())
    # A worker that ends by itself has failed for good: the fleet starts a new process.
    await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*running)
    signs.give("drained")


async def _connect(kind: str, stop: asyncio.Event) -> Client | None:
    """
    Wait for the server as long as it takes: its absence is no reason to die.
    """
    told = False
    identity = f"{os.getpid()}@{socket.gethostname()}:{kind}"
    while not stop.is_set():
        try:
            return await connect(identity=identity)
        except UnavailableError as error:
            if not told:
                logger.warning("server.away", extra={"error": str(error)})
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CONNECT_AGAIN_S)
    return None


def _workers(kind: str, client: Client, store: Store, chosen: Settings) -> list[Worker]:
    if kind == WORKFLOWS:
        return [missions_worker(client, store)]
    place = Place(
        ledger=Ledger(store, fencing=chosen.fencing),
        threads=ThreadPoolExecutor(chosen.slots * 4, thread_name_prefix="agent"),
    )
    return [
        agent_worker(client, place, agent, chosen)
        for agent in load(chosen.modules).values()
    ]


def missions_worker(client: Client, store: Store) -> Worker:
    """
    Make the worker that runs supervisor workflows and closes their books.
    """
    return Worker(
        client,
        task_queue=MISSIONS_QUEUE,
        workflows=[SupervisorWorkflow],
        activities=[close_mission(store)],
        workflow_runner=runner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=SHIPPED.sticky_s),
        **_common(),
    )


def runner() -> SandboxedWorkflowRunner:
    """
    Make the sandbox in which workflows run and replay.
    """
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)


def agent_worker(
    client: Client, place: Place, agent: Agent, chosen: Settings
) -> Worker:
    """
    Make the worker that plays *agent*, on its role's own queue.
    """
    return Worker(
        client,
        task_queue=queue_of(agent.role),
        activities=[host(agent, place)],
        max_concurrent_activities=chosen.slots,
        # A poll that dies with its process can swallow a task: hold only one.
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(),
    )


def _common() -> dict[str, Any]:
    throttle = timedelta(seconds=SHIPPED.beat_s / 2)
    return {
        "build_id": BUILD_ID,
        "max_heartbeat_throttle_interval": throttle,
        "default_heartbeat_throttle_interval": throttle,
    }


def _stop_signal() -> asyncio.Event:
    """
    Make the event that SIGTERM sets, and the end of the parent.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def watch_parent() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch_parent, daemon=True).start()
    return stop


def _take_stdout() -> TextIO:
    """
    Keep standard output for signs; what agents print goes to standard error.
    """
    signs = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return signs


if __name__ == "__main__":
    main(sys.argv[1])
