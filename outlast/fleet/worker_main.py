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

from outlast.agents.agent_loading import load, playing
from outlast.agents.registry import Agent
from outlast.agents.worker_start import open_all, unfinished
from outlast.contracts.errors import (
    BadInputError,
    OutlastError,
    StoreLostError,
    UnavailableError,
    WorkerStartError,
)
from outlast.dev.locks import home_of
from outlast.execution.temporal_activities import closed
from outlast.fleet.after_fork import release_in_forked
from outlast.fleet.flight_recorder import Recorder
from outlast.fleet.log_filters import tell_plainly
from outlast.fleet.metrics import TELL_TICKS, Outbox
from outlast.fleet.model_clients import warm_clients
from outlast.fleet.own_kill import note_own_kill
from outlast.fleet.process_kinds import (
    DRAIN,
    TICK_S,
    Ending,
    Kind,
    identity_of,
    recorder_of,
    stack_of,
    unended_of,
)
from outlast.fleet.shutdown_order import busy_queues, leave
from outlast.fleet.spare_processes import stand_by
from outlast.fleet.stack_dumps import write_on_signal
from outlast.fleet.store_watch import open_patiently, watch
from outlast.fleet.subprocesses import carry
from outlast.fleet.unserved_tasks import Lookout
from outlast.fleet.worker_output import finish_output, tell_attempts
from outlast.fleet.workers import Hosted, hosted
from outlast.process.event_loop import run_whole
from outlast.process.stop_signals import outlive_hangup
from outlast.secrets import mask
from outlast.settings import Settings, settings
from outlast.store.database import share, shared
from outlast.store.output_roots import confine
from outlast.telemetry import counters, setup
from outlast.temporal.connect import connect_patiently
from outlast.temporal.own_temporal import refuse_another
from outlast.temporal.payload_storage import with_storage

# After the drain time attempts have been cancelled; one that does not end is left.
END_AFTER_S = 2.0
# Without a parent a process that has not ended by then ends itself.
ORPHAN_S = 1.0

# What agents open when their worker starts, all of it.
START_LIMIT_S = 60.0

# The parent reads all the time, unless it is frozen.
LAST_WORDS_S = 1.0

# How often a disk without room for a recorder is asked again.
NO_ROOM_S = 1.0

logger = logging.getLogger("outlast.fleet")


class UnfitError(OutlastError):
    """
    A worker has ended by itself, which it does only when it cannot go on.
    """


def run(kind: Kind, channel: socket.socket) -> NoReturn:
    """
    Be a worker of *kind* until told to stop, then end the process.

    :param channel: to the parent: it hears our signs, and its end is our end.
    """
    # The parent decides. Not ignored, which what an agent starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    outlive_hangup()
    begin_log()
    watched, last = channel.dup(), channel.dup()  # the event loop closes its own
    threading.Thread(target=_end_alone, args=(watched,), daemon=True).start()
    agents: dict[str, Agent] = {}
    try:
        # Before the watchdog looks at us: an import may take its time.
        agents = {} if kind is Kind.WORKFLOWS else _agents(settings())
    except OutlastError as error:
        end_for(error, kind, last)
    try:
        run_whole(_live(kind, agents, [channel, watched, last]))
    finally:
        os._exit(1)


def begin_log() -> None:
    """
    Set up this process's log: before agents are imported, in a worker as in its zygote.
    """
    tell_attempts(settings().log_level, settings().users_modules)
    tell_plainly()


async def _live(
    kind: Kind, agents: dict[str, Agent], ends: list[socket.socket]
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
        end_for(error, kind, ends[-1])
    except BaseException as error:
        logger.exception("child.failed")
        say_why(ends[-1], OutlastError(f"{type(error).__name__}: {error}"))
    finally:
        setup.end()
        finish_output()
        os._exit(code)


def end_for(error: OutlastError, kind: Kind, channel: socket.socket) -> NoReturn:
    """
    End the process for *error*, and say so in the log and to the parent.
    """
    print(f"{kind}: {error}", file=sys.stderr, flush=True)
    say_why(channel, error)
    setup.end()
    os._exit(1)


def ending_of(error: OutlastError) -> Ending:
    """
    Say why we end; a store that is away, for one, may be there the next time.
    """
    if isinstance(error, UnfitError):
        return Ending.UNFIT
    if isinstance(error, StoreLostError):
        return Ending.STORE
    return Ending.BAD_INPUT if isinstance(error, BadInputError) else Ending.FAILED


def say_why(channel: socket.socket, error: OutlastError) -> None:
    """
    Tell the parent why we end.
    """
    told = {"ending": ending_of(error), "why": mask(str(error))}
    channel.settimeout(LAST_WORDS_S)
    with contextlib.suppress(OSError):  # it is gone, or does not listen
        channel.sendall(json.dumps(told).encode() + b"\n")


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


async def _serve(
    kind: Kind, agents: dict[str, Agent], ends: list[socket.socket]
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    parent = Parent(*await asyncio.open_connection(sock=ends[0]))
    chosen = settings()
    if kind is not Kind.WORKFLOWS:
        await _open_for_agents(kind, stop, ends[-1])
    confine(chosen.output_roots)
    home, pid, outbox = home_of(chosen), os.getpid(), Outbox()
    recorder = await _recorder(recorder_of(home, pid), stop)
    if recorder is None:
        return
    note_own_kill(recorder.kills_itself)
    write_on_signal(stack_of(home, pid))
    release_in_forked(ends, recorder.let_go)
    setup.begin(kind, unended_of(home, pid))
    counters.listen(outbox)
    watching = [
        asyncio.ensure_future(parent.watch(stop)),
        asyncio.ensure_future(_tick(recorder, parent, outbox)),
    ]
    store = await open_patiently(stop, chosen, recorder)
    client = await connect_patiently(stop, identity_of(pid, kind))
    if client is not None and store is not None:
        share(store)
        store.on_lost(parent.tell_lost)
        watching.append(asyncio.ensure_future(watch(store, recorder)))
        if kind is Kind.WORKFLOWS:  # one of a fleet is enough
            await refuse_another(client, store)
        client = with_storage(client, shared)
        hosting = await hosted(kind, client, store, agents, chosen, recorder)
        parent.tell_hosted(hosting)
        if kind is Kind.WORKFLOWS:
            watching.append(asyncio.ensure_future(Lookout(client, store).run()))
        if hosting.played is not None:
            watching.append(asyncio.ensure_future(_stop_after(hosting.played, stop)))
        runs, limit_s = recorder.path.parent, chosen.drain_s + END_AFTER_S
        await _work(hosting, parent, stop, limit_s, runs)
    parent.post(outbox)
    recorder.drained()
    parent.tell("drained")
    for each in watching:
        each.cancel()


async def _recorder(path: Path, stop: asyncio.Event) -> Recorder | None:
    """
    Make the flight recorder, as soon as there is room for it. None when *stop* was set
    before.
    """
    told = False
    while not stop.is_set():
        try:
            return Recorder(path)  # it makes the folder
        except UnavailableError as error:
            if not told:
                logger.warning("recorder.no_room: %s", error)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), NO_ROOM_S)
    return None


async def _open_for_agents(
    kind: Kind, stop: asyncio.Event, channel: socket.socket
) -> None:
    """
    Have what is under `@on_worker_start` called, here where agents will run, and before
    the watchdog looks at us: connecting may take its time, and hold the loop.

    :raises WorkerStartError: when it fails.
    """

    def end() -> NoReturn:
        end_for(WorkerStartError(unfinished(START_LIMIT_S)), kind, channel)

    late = threading.Timer(START_LIMIT_S, end)  # also where it holds the loop
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


async def _stop_after(played: asyncio.Event, stop: asyncio.Event) -> None:
    await played.wait()
    stop.set()


def _agents(chosen: Settings) -> dict[str, Agent]:
    """
    Load all agents and keep those whose roles this fleet plays.
    """
    agents = playing(load(chosen.played_modules), chosen.role_names)
    warm_clients()  # done already where we were forked
    return agents


async def _work(
    hosting: Hosted,
    parent: "Parent",
    stop: asyncio.Event,
    limit_s: float,
    runs: Path,
) -> None:
    """
    Poll until told to stop, then drain within *limit_s*.

    :param runs: the folder of our recorder and those of the processes beside us.
    :raises TimeoutError: when attempts do not end; they die with the process.
    :raises UnfitError: when a worker has ended before that.
    """
    workers, played = hosting.workers, hosting.played
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    parent.tell("polling")
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    try:
        async with asyncio.timeout(limit_s) as limit:
            at_once = failed or (played is not None and played.is_set())
            await leave(workers, set() if at_once else busy_queues(runs))
            await asyncio.gather(*running)
        with contextlib.suppress(TimeoutError):  # lines in a store that is away
            async with asyncio.timeout_at(limit.when()):
                await closed()
    finally:
        if failed:
            raise UnfitError(f"a worker has ended by itself: {_why(running)}")


def _why(running: list[asyncio.Task[None]]) -> str:
    ended = [each for each in running if each.done() and not each.cancelled()]
    causes = [str(each.exception()) for each in ended if each.exception()]
    return causes[0] if causes else "it does not say why"


async def _tick(recorder: Recorder, parent: "Parent", outbox: Outbox) -> None:
    """
    Show the watchdog that the event loop turns, and keep the parent posted.
    """
    for turn in itertools.count():
        recorder.tick()
        if turn % TELL_TICKS == 0:
            parent.post(outbox)
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

    def tell_lost(self, error: StoreLostError) -> None:
        """
        Say that no waiting brings the store back.
        """
        self.writer.write(json.dumps({"lost": str(error)}).encode() + b"\n")

    def tell_hosted(self, hosting: Hosted) -> None:
        """
        Say what we host, before we say that we poll.
        """
        told = {"isolated": hosting.isolated, "polls": hosting.polls}
        self.writer.write(json.dumps(told).encode() + b"\n")

    def post(self, outbox: Outbox) -> None:
        """
        Tell what was counted since the last time, if anything, in one more such line.
        """
        if told := outbox.empty():
            self.writer.write(json.dumps(told).encode() + b"\n")

    async def watch(self, stop: asyncio.Event) -> None:
        """
        Stop when the parent asks for it, or is gone.
        """
        with contextlib.suppress(OSError):
            while await self.reader.readline() not in (DRAIN, b""):
                pass
        stop.set()


if __name__ == "__main__":
    carry(int(sys.argv[3]))
    line = socket.socket(fileno=int(sys.argv[2]))
    run(stand_by(Kind(sys.argv[1]), line), line)
