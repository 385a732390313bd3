"""
One worker process: hosts agents, or workflows, and tells its parent what it does.

It reads its parent's end of a pipe: when that closes, the parent is gone and the
child drains. It ends by os._exit, since an interpreter that is torn down with
attempts pending aborts.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from outlast.agents.agent import Agent
from outlast.agents.agent_loading import for_roles, load_agents
from outlast.agents.worker_start import open_all, unfinished
from outlast.contracts.errors import (
    BadInputError,
    OutlastError,
    StoreLostError,
    UnavailableError,
    WorkerStartError,
)
from outlast.dev.locks import ensure_home
from outlast.execution.temporal_activities import flush_closing
from outlast.fleet.after_fork import close_in_forked
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.log_filters import install_log_filters
from outlast.fleet.metrics import SEND_TICKS, MetricsOutbox
from outlast.fleet.model_clients import warm_clients
from outlast.fleet.own_kill import on_own_kill
from outlast.fleet.process_kinds import (
    DRAIN_DETECTED,
    TICK_S,
    ExitReason,
    ProcessKind,
    crash_spans_path,
    recorder_path,
    stack_path,
    worker_identity,
)
from outlast.fleet.shutdown_order import busy_queues, shut_down_in_order
from outlast.fleet.spare_processes import wait_for_kind
from outlast.fleet.stack_dumps import write_on_signal
from outlast.fleet.store_watch import open_patiently, watch
from outlast.fleet.subprocesses import set_mark
from outlast.fleet.unserved_tasks import UnservedTaskMonitor
from outlast.fleet.worker_output import finish_output, log_attempts
from outlast.fleet.workers import WorkerSet, build_workers
from outlast.process.event_loop import run_until_done
from outlast.process.stop_signals import ignore_hangup
from outlast.secrets import mask
from outlast.settings import Settings, settings
from outlast.store.database import process_store, set_process_store
from outlast.store.output_roots import set_roots
from outlast.telemetry import counters, setup
from outlast.temporal.connect import connect_when_available
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.payload_storage import with_storage

# After the drain time attempts have been cancelled; one that does not end is left.
WORKER_STOP_S = 2.0
# Without a parent a process that has not ended by then ends itself.
ORPHAN_EXIT_S = 1.0

# What agents open when their worker starts, all of it.
AGENT_START_LIMIT_S = 60.0

# The parent reads all the time, unless it is frozen.
EXIT_REASON_LIMIT_S = 1.0

# How often a disk without room for a recorder is asked again.
DISK_FULL_PAUSE_S = 1.0

logger = logging.getLogger("outlast.fleet")


class WorkerStoppedError(OutlastError):
    """
    A worker has ended by itself, which it does only when it cannot go on.
    """


def run(kind: ProcessKind, channel: socket.socket) -> NoReturn:
    """
    Be a worker of *kind* until told to stop, then end the process.

    :param channel: to the parent: it hears our signs, and its end is our end.
    """
    # The parent decides. Not ignored, which what an agent starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    ignore_hangup()
    begin_log()
    watched, last = channel.dup(), channel.dup()  # the event loop closes its own
    threading.Thread(target=_exit_when_orphaned, args=(watched,), daemon=True).start()
    agents: dict[str, Agent] = {}
    try:
        # Before the watchdog looks at us: an import may take its time.
        agents = {} if kind is ProcessKind.WORKFLOWS else _agents(settings())
    except OutlastError as error:
        exit_for(error, kind, last)
    try:
        run_until_done(_run_worker(kind, agents, [channel, watched, last]))
    finally:
        os._exit(1)


def begin_log() -> None:
    """
    Set up this process's log: before agents are imported, in a worker as in its zygote.
    """
    log_attempts(settings().log_level, settings().users_modules)
    install_log_filters()


async def _run_worker(
    kind: ProcessKind, agents: dict[str, Agent], ends: list[socket.socket]
) -> None:
    """
    Serve, then end the process. Not by asyncio.run, which waits for threads and for
    tasks that swallow their cancellation.

    :param ends: all of our ends of the parent's channel; the first one is the event
        loop's, the last one is nobody else's.
    """
    code = 1
    try:
        await _serve(kind, agents, ends)
        code = 0
    except OutlastError as error:
        exit_for(error, kind, ends[-1])
    except BaseException as error:
        logger.exception("worker.failed")
        send_exit_reason(ends[-1], OutlastError(f"{type(error).__name__}: {error}"))
    finally:
        setup.stop_telemetry()
        finish_output()
        os._exit(code)


def exit_for(
    error: OutlastError, kind: ProcessKind, channel: socket.socket
) -> NoReturn:
    """
    End the process for *error*, and say so in the log and to the parent.
    """
    print(f"{kind}: {error}", file=sys.stderr, flush=True)
    send_exit_reason(channel, error)
    setup.stop_telemetry()
    os._exit(1)


def exit_reason_of(error: OutlastError) -> ExitReason:
    """
    Say why we end; a store that is away, for one, may be there the next time.
    """
    if isinstance(error, WorkerStoppedError):
        return ExitReason.WORKER_STOPPED
    if isinstance(error, StoreLostError):
        return ExitReason.STORE
    return (
        ExitReason.BAD_INPUT if isinstance(error, BadInputError) else ExitReason.FAILED
    )


def send_exit_reason(channel: socket.socket, error: OutlastError) -> None:
    """
    Tell the parent why we end.
    """
    told = {"end_reason": exit_reason_of(error), "why": mask(str(error))}
    channel.settimeout(EXIT_REASON_LIMIT_S)
    with contextlib.suppress(OSError):  # it is gone, or does not listen
        channel.sendall(json.dumps(told).encode() + b"\n")


def _exit_when_orphaned(channel: socket.socket) -> NoReturn:
    """
    End the process a while after its parent, also when agent code holds the event
    loop: nobody is left to kill it, and its successors wait for its recorder.
    """
    gone = select.poll()
    gone.register(channel, 0)  # nothing but the end of the other side
    gone.poll()
    time.sleep(settings().drain_grace_s + WORKER_STOP_S + ORPHAN_EXIT_S)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def _serve(
    kind: ProcessKind, agents: dict[str, Agent], ends: list[socket.socket]
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    parent = ParentChannel(*await asyncio.open_connection(sock=ends[0]))
    chosen = settings()
    if kind is not ProcessKind.WORKFLOWS:
        await _open_for_agents(kind, stop, ends[-1])
    set_roots(chosen.output_roots)
    home, pid, outbox = ensure_home(chosen), os.getpid(), MetricsOutbox()
    recorder = await _recorder(recorder_path(home, pid), stop)
    if recorder is None:
        return
    on_own_kill(recorder.note_self_kill)
    write_on_signal(stack_path(home, pid))
    close_in_forked(ends, recorder.close_after_fork)
    setup.start_telemetry(kind, crash_spans_path(home, pid))
    counters.set_counters(outbox)
    watching = [
        asyncio.ensure_future(parent.watch(stop)),
        asyncio.ensure_future(_tick(recorder, parent, outbox)),
    ]
    store = await open_patiently(stop, chosen, recorder)
    client = await connect_when_available(stop, worker_identity(pid, kind))
    if client is not None and store is not None:
        set_process_store(store)
        store.on_lost(parent.send_store_lost)
        watching.append(asyncio.ensure_future(watch(store, recorder)))
        if kind is ProcessKind.WORKFLOWS:  # one of a fleet is enough
            await require_known_server(client, store)
        client = with_storage(client, process_store)
        hosting = await build_workers(kind, client, store, agents, chosen, recorder)
        parent.send_hosted(hosting)
        if kind is ProcessKind.WORKFLOWS:
            watching.append(
                asyncio.ensure_future(UnservedTaskMonitor(client, store).run())
            )
        if hosting.used is not None:
            watching.append(asyncio.ensure_future(_stop_after_use(hosting.used, stop)))
        runs, limit_s = recorder.path.parent, chosen.drain_grace_s + WORKER_STOP_S
        await _poll_until_stopped(hosting, parent, stop, limit_s, runs)
    parent.send_metrics(outbox)
    recorder.note_drained()
    parent.send_state("drained")
    for each in watching:
        each.cancel()


async def _recorder(path: Path, stop: asyncio.Event) -> FlightRecorder | None:
    """
    Make the flight recorder, as soon as there is room for it. None when *stop* was set
    before.
    """
    told = False
    while not stop.is_set():
        try:
            return FlightRecorder(path)  # it makes the folder
        except UnavailableError as error:
            if not told:
                logger.warning("recorder.disk_full: %s", error)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), DISK_FULL_PAUSE_S)
    return None


async def _open_for_agents(
    kind: ProcessKind, stop: asyncio.Event, channel: socket.socket
) -> None:
    """
    Have what is under `@on_worker_start` called, here where agents will run, and before
    the watchdog looks at us: connecting may take its time, and hold the loop.

    :raises WorkerStartError: when it fails.
    """

    def end() -> NoReturn:
        exit_for(WorkerStartError(unfinished(AGENT_START_LIMIT_S)), kind, channel)

    late = threading.Timer(AGENT_START_LIMIT_S, end)  # also where it holds the loop
    late.daemon = True
    late.start()
    opening = asyncio.ensure_future(open_all())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
    finally:
        late.cancel()
        opening.cancel()
        stopping.cancel()


async def _stop_after_use(played: asyncio.Event, stop: asyncio.Event) -> None:
    await played.wait()
    stop.set()


def _agents(chosen: Settings) -> dict[str, Agent]:
    """
    Load all agents and keep those whose roles this fleet plays.
    """
    agents = for_roles(load_agents(chosen.worker_modules), chosen.role_names)
    warm_clients()  # done already where we were forked
    return agents


async def _poll_until_stopped(
    hosting: WorkerSet,
    parent: "ParentChannel",
    stop: asyncio.Event,
    limit_s: float,
    runs: Path,
) -> None:
    """
    Poll until told to stop, then drain within *limit_s*.

    :param runs: the folder of our recorder and those of the processes beside us.
    :raises TimeoutError: when attempts do not end; they die with the process.
    :raises WorkerStoppedError: when a worker has ended before that.
    """
    workers, played = hosting.workers, hosting.used
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    parent.send_state("polling")
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    try:
        async with asyncio.timeout(limit_s) as limit:
            at_once = failed or (played is not None and played.is_set())
            await shut_down_in_order(workers, set() if at_once else busy_queues(runs))
            await asyncio.gather(*running)
        with contextlib.suppress(TimeoutError):  # lines in a store that is away
            async with asyncio.timeout_at(limit.when()):
                await flush_closing()
    finally:
        if failed:
            raise WorkerStoppedError(
                f"a worker has ended by itself: {_first_cause(running)}"
            )


def _first_cause(running: list[asyncio.Task[None]]) -> str:
    ended = [each for each in running if each.done() and not each.cancelled()]
    causes = [str(each.exception()) for each in ended if each.exception()]
    return causes[0] if causes else "it does not say why"


async def _tick(
    recorder: FlightRecorder, parent: "ParentChannel", outbox: MetricsOutbox
) -> None:
    """
    Show the watchdog that the event loop turns, and keep the parent posted.
    """
    for turn in itertools.count():
        recorder.tick()
        if turn % SEND_TICKS == 0:
            parent.send_metrics(outbox)
        await asyncio.sleep(TICK_S)


@dataclass
class ParentChannel:
    """
    The other end of the channel.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send_state(self, state: str) -> None:
        """
        Give a sign, one JSON line.
        """
        self.writer.write(json.dumps({"sign": state}).encode() + b"\n")

    def send_store_lost(self, error: StoreLostError) -> None:
        """
        Say that no waiting brings the store back.
        """
        self.writer.write(json.dumps({"lost": str(error)}).encode() + b"\n")

    def send_hosted(self, hosting: WorkerSet) -> None:
        """
        Say what we host, before we say that we poll.
        """
        told = {"isolated": hosting.isolated, "polls": hosting.polls}
        self.writer.write(json.dumps(told).encode() + b"\n")

    def send_metrics(self, outbox: MetricsOutbox) -> None:
        """
        Tell what was counted since the last time, if anything, in one more such line.
        """
        if told := outbox.drain():
            self.writer.write(json.dumps(told).encode() + b"\n")

    async def watch(self, stop: asyncio.Event) -> None:
        """
        Stop when the parent asks for it, or is gone.
        """
        with contextlib.suppress(OSError):
            while await self.reader.readline() not in (DRAIN_DETECTED, b""):
                pass
        stop.set()


if __name__ == "__main__":
    set_mark(int(sys.argv[3]))
    line = socket.socket(fileno=int(sys.argv[2]))
    run(wait_for_kind(ProcessKind(sys.argv[1]), line), line)
