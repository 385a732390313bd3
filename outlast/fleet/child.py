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
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import (
    SandboxedWorkflowRunner,
    SandboxRestrictions,
)

from activities.leases import keeping, lend
from activities.registrar import close_mission
from outlast.attempt.agent import Agent, load
from outlast.attempt.guard import Place
from outlast.attempt.host import closed, host
from outlast.attempt.ledger import Ledger
from outlast.contracts.errors import OutlastError
from outlast.contracts.models import ALONE_QUEUE, MISSIONS_QUEUE, queue_of
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import lease_queue_of
from outlast.fleet.kinds import TICK_S, Kind, identity_of, recorder_of
from outlast.fleet.recorder import Recorder
from outlast.runtime.connect import connect_patiently
from outlast.runtime.locks import home_of
from outlast.runtime.settings import Settings, settings
from outlast.store.database import Store, share
from workflows.pool import PoolWorkflow
from workflows.supervisor import SupervisorWorkflow

BAD_INPUT = 2  # tells the parent that trying again changes nothing

# After the drain time attempts have been cancelled; one that does not end is left.
END_AFTER_S = 2.0
# Without a parent a process that has not ended by then ends itself.
ORPHAN_S = 1.0

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

logger = logging.getLogger("outlast.fleet")


def run(kind: Kind, channel: socket.socket) -> NoReturn:
    """
    Be a worker of *kind* until told to stop, then end the process.

    :param channel: to the parent: it hears our signs, and its end is our end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, by SIGTERM
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(message)s")
    # We tell of every failed attempt ourselves, with one traceback instead of two.
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    threading.Thread(target=_end_alone, args=(channel.dup(),), daemon=True).start()
    code = 1
    try:
        asyncio.run(_serve(kind, channel))
        code = 0
    except OutlastError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        code = BAD_INPUT
    except BaseException:
        logger.exception("child.failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_alone(channel: socket.socket) -> NoReturn:
    """
    End the process a while after its parent, also when agent code holds the event
    loop: nobody is left to kill it, and its successors wait for its recorder.
    """
    gone = select.poll()
    gone.register(channel, 0)  # nothing but the end of the other side
    gone.poll()
    time.sleep(settings().drain_s + END_AFTER_S + ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def _serve(kind: Kind, channel: socket.socket) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    parent = Parent(*await asyncio.open_connection(sock=channel))
    chosen = settings()
    # Before the watchdog looks at us: an import may take its time, and hold the loop.
    agents = {} if kind is Kind.WORKFLOWS else load(chosen.modules)
    recorder = Recorder(recorder_of(home_of(chosen), os.getpid()))
    watching = [
        asyncio.ensure_future(parent.watch(stop)),
        asyncio.ensure_future(_tick(recorder)),
    ]
    store = Store(chosen.store_path)
    share(store)
    client = await connect_patiently(stop, identity_of(os.getpid(), kind))
    if client is not None:
        workers = _workers(kind, client, store, agents, chosen, recorder)
        await _work(workers, parent, stop, chosen.drain_s + END_AFTER_S)
    recorder.drained()
    parent.tell("drained")
    for each in watching:
        each.cancel()


async def _work(
    workers: list[Worker], parent: "Parent", stop: asyncio.Event, limit_s: float
) -> None:
    """
    Poll until told to stop, then drain within *limit_s*.

    :raises TimeoutError: when attempts do not end; they die with the process.
    """
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    parent.tell("polling")
    stopping = asyncio.ensure_future(stop.wait())
    # A worker that ends by itself has failed for good: the fleet starts a new process.
    await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    async with asyncio.timeout(limit_s):
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*running)
        await closed()


async def _tick(recorder: Recorder) -> None:
    """
    Show the watchdog that the event loop turns.
    """
    while True:
        recorder.tick()
        await asyncio.sleep(TICK_S)


@dataclass
class Parent:
    """
    The other end of the channel.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def tell(self, sign: str) -> None:
        """
        Give a sign, one JSON line.
        """
        self.writer.write(json.dumps({"sign": sign}).encode() + b"\n")

    async def watch(self, stop: asyncio.Event) -> None:
        """
        Stop when the parent is gone.
        """
        with contextlib.suppress(OSError):
            await self.reader.read()
        stop.set()


def _workers(
    kind: Kind,
    client: Client,
    store: Store,
    agents: dict[str, Agent],
    chosen: Settings,
    recorder: Recorder,
) -> list[Worker]:
    if kind is Kind.WORKFLOWS:
        return [missions_worker(client, store)]
    ledger = Ledger(store, fencing=chosen.fencing)
    ledger.warm_up()
    place = Place(
        ledger=ledger,
        threads=ThreadPoolExecutor(chosen.slots * 4, thread_name_prefix="agent"),
        hands=recorder,
    )
    if kind is Kind.ALONE:
        return [alone_worker(client, place, agents, chosen)]
    return [
        make(client, place, agent, chosen)
        for agent in agents.values()
        for make in (agent_worker, pool_worker)
    ]


def missions_worker(client: Client, store: Store) -> Worker:
    """
    Make the worker that runs supervisor workflows and closes their books.
    """
    return Worker(
        client,
        task_queue=MISSIONS_QUEUE,
        workflows=[SupervisorWorkflow, PoolWorkflow],
        activities=[close_mission(store), *keeping(store)],
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
        # Leases too: one that was lent before waits here.
        activities=[host(agent, place), lend(agent, place)],
        max_concurrent_activities=chosen.slots,
        # A poll that dies with its process can swallow a task: hold only one.
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(),
    )


def pool_worker(client: Client, place: Place, agent: Agent, chosen: Settings) -> Worker:
    """
    Make the worker that takes leases for *agent*: apart from its tasks, so that a
    huge batch is in no mission's way.
    """
    return Worker(
        client,
        task_queue=lease_queue_of(agent.role),
        activities=[lend(agent, place)],
        max_concurrent_activities=chosen.leases,
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=timedelta(seconds=chosen.drain_s),
        **_common(),
    )


def alone_worker(
    client: Client, place: Place, agents: dict[str, Agent], chosen: Settings
) -> Worker:
    """
    Make the worker that plays any agent, one attempt at a time, for suspects.
    """
    return Worker(
        client,
        task_queue=ALONE_QUEUE,
        activities=[
            play(agent, place) for agent in agents.values() for play in (host, lend)
        ],
        max_concurrent_activities=1,
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


if __name__ == "__main__":
    run(Kind(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
