"""
One worker process: hosts agents, or workflows, and tells its parent what it does.

It reads its parent's end of a channel: when that closes, the parent is gone and the
worker drains. It ends by os._exit, since an interpreter that is torn down with
attempts pending aborts.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import select
import signal
import socket
import threading
import time
from typing import NoReturn

from outlast.agents.agent_loading import for_roles, load_agents
from outlast.agents.worker_start import open_all, unfinished
from outlast.contracts.errors import OutlastError, UnavailableError, WorkerStartError
from outlast.dev.locks import ensure_home
from outlast.fleet.after_fork import close_in_forked
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.messages import Hosted, StateChanged, StoreGone
from outlast.fleet.metrics import SEND_TICKS
from outlast.fleet.model_clients import warm_clients
from outlast.fleet.own_kill import on_own_kill
from outlast.fleet.parent_channel import ParentChannel, send_exit_reason
from outlast.fleet.polling import poll_until_stopped
from outlast.fleet.process_context import ProcessContext
from outlast.fleet.process_kinds import (
    TICK_S,
    ProcessKind,
    ProcessState,
    crash_spans_path,
    recorder_path,
    stack_path,
    worker_identity,
)
from outlast.fleet.stack_dumps import write_on_signal
from outlast.fleet.store_watch import open_patiently, watch
from outlast.fleet.unserved_tasks import UnservedTaskMonitor
from outlast.fleet.worker_output import begin_log, finish_output
from outlast.fleet.workers import build_workers
from outlast.process.event_loop import run_until_done
from outlast.process.stop_signals import ignore_hangup
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.output_roots import set_roots
from outlast.telemetry import setup
from outlast.telemetry.process import telemetry
from outlast.temporal.connect import connect_when_available
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.payload_storage import with_storage

# Without a parent a process that has not ended by then ends itself.
ORPHAN_EXIT_S = 1.0

# What agents open when their worker starts, all of it.
AGENT_START_LIMIT_S = 60.0

# How often a disk without room for a recorder is asked again.
DISK_FULL_PAUSE_S = 1.0

logger = logging.getLogger("outlast.fleet")


def run(kind: ProcessKind, channel: socket.socket) -> NoReturn:
    """
    Be a worker of *kind* until told to stop, then end the process.

    :param channel: to the parent: it hears our messages, and its end is our end.
    """
    # The parent decides. Not ignored, which what an agent starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    ignore_hangup()
    begin_log()
    ends = [channel, channel.dup(), channel.dup()]  # the event loop closes its own
    chosen = settings()
    process = ProcessContext(kind, ends, chosen)
    threading.Thread(target=_exit_when_orphaned, args=(process,), daemon=True).start()
    try:
        # Before the watchdog looks at us: an import may take its time.
        if kind is not ProcessKind.WORKFLOWS:
            agents = load_agents(chosen.worker_modules)
            process.agents = for_roles(agents, chosen.role_names)
            warm_clients()  # done already where we were forked
    except OutlastError as error:
        process.exit_for(error)
    try:
        run_until_done(_run_worker(process))
    finally:
        os._exit(1)


async def _run_worker(process: ProcessContext) -> None:
    """
    Serve, then end the process. Not by asyncio.run, which waits for threads and for
    tasks that swallow their cancellation.
    """
    code = 1
    try:
        await _serve(process)
        code = 0
    except OutlastError as error:
        process.exit_for(error)
    except BaseException as error:
        logger.exception("worker.failed")
        failure = OutlastError(f"{type(error).__name__}: {error}")
        send_exit_reason(process.ends[-1], failure)
    finally:
        setup.stop_telemetry()
        finish_output()
        os._exit(code)


def _exit_when_orphaned(process: ProcessContext) -> NoReturn:
    """
    End the process a while after its parent, also when agent code holds the event
    loop: nobody is left to kill it, and its successors wait for its recorder.
    """
    gone = select.poll()
    gone.register(process.ends[1], 0)  # nothing but the end of the other side
    gone.poll()
    time.sleep(process.stop_limit_s + ORPHAN_EXIT_S)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def _serve(process: ProcessContext) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.stop.set)
    parent = ParentChannel(*await asyncio.open_connection(sock=process.ends[0]))
    if process.kind is not ProcessKind.WORKFLOWS:
        await _open_for_agents(process)
    set_roots(process.settings.output_roots)
    ensure_home(process.settings)
    recorder = await _open_recorder(process)
    if recorder is None:
        return
    _let_others_see(process, recorder)
    process.start(parent.watch(process.stop))
    process.start(_tick(process, recorder, parent))
    store = await open_patiently(process.stop, process.settings, recorder)
    if store is not None:
        await _work(process, recorder, parent, store)
    if counted := process.outbox.drain():
        parent.send(counted)
    recorder.note_drained()
    parent.send(StateChanged(state=ProcessState.DRAINED))
    for each in process.watching:
        each.cancel()


def _let_others_see(process: ProcessContext, recorder: FlightRecorder) -> None:
    """
    Have noted what the parent reads of this process while it lives and once it is dead.
    """
    pid = os.getpid()
    on_own_kill(recorder.note_self_kill)
    write_on_signal(stack_path(process.home, pid))
    close_in_forked(process.ends, recorder.close_after_fork)
    setup.start_telemetry(process.kind, crash_spans_path(process.home, pid))
    telemetry.counters = process.outbox


async def _work(
    process: ProcessContext,
    recorder: FlightRecorder,
    parent: ParentChannel,
    store: Store,
) -> None:
    """
    Connect to the server and play what it sends until the process is to stop.
    """
    kind, stop = process.kind, process.stop
    client = await connect_when_available(stop, worker_identity(os.getpid(), kind))
    if client is None:
        return
    store.on_lost(lambda error: parent.send(StoreGone(why=str(error))))
    process.start(watch(store, recorder))
    if kind is ProcessKind.WORKFLOWS:  # one of a fleet is enough
        await require_known_server(client, store)
    client = with_storage(client, lambda: store)
    hosting = await build_workers(
        kind, client, store, process.agents, process.settings, recorder
    )
    parent.send(Hosted(isolated=hosting.isolated, polls=hosting.polls))
    if kind is ProcessKind.WORKFLOWS:
        process.start(UnservedTaskMonitor(client, store).run())
    if hosting.used is not None:
        process.start(_stop_after_use(hosting.used, stop))
    folder = recorder.path.parent
    await poll_until_stopped(hosting, parent, stop, process.stop_limit_s, folder)


async def _open_recorder(process: ProcessContext) -> FlightRecorder | None:
    """
    Make the flight recorder, as soon as there is room for it. None when the process is
    to stop before.
    """
    path = recorder_path(process.home, os.getpid())
    logged = False
    while not process.stop.is_set():
        try:
            return FlightRecorder(path)  # it makes the folder
        except UnavailableError as error:
            if not logged:
                logger.warning("recorder.disk_full: %s", error)
            logged = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.stop.wait(), DISK_FULL_PAUSE_S)
    return None


async def _open_for_agents(process: ProcessContext) -> None:
    """
    Have what is under `@on_worker_start` called, here where agents will run, and before
    the watchdog looks at us: connecting may take its time, and hold the loop.

    :raises WorkerStartError: when it fails.
    """

    def end() -> NoReturn:
        process.exit_for(WorkerStartError(unfinished(AGENT_START_LIMIT_S)))

    late = threading.Timer(AGENT_START_LIMIT_S, end)  # also where it holds the loop
    late.daemon = True
    late.start()
    opening = asyncio.ensure_future(open_all())
    stopping = asyncio.ensure_future(process.stop.wait())
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


async def _tick(
    process: ProcessContext, recorder: FlightRecorder, parent: ParentChannel
) -> None:
    """
    Show the watchdog that the event loop turns, and keep the parent posted.
    """
    for turn in itertools.count():
        recorder.tick()
        if turn % SEND_TICKS == 0 and (counted := process.outbox.drain()):
            parent.send(counted)
        await asyncio.sleep(TICK_S)
