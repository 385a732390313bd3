"""
The fleet's parent: keeps worker processes alive and reports what died with them.

It runs no agent code, so nothing an agent does can reach it. A death in service is
answered at once: a new process is started, and what the dead one had in hand is
reported, at the same time. A process that dies before it polls is tried again ever
more slowly, and after a few times in a row the parent gives up, so that whoever keeps
*it* alive can see.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outlast.contracts.errors import BadInputError
from outlast.dev.locks import ensure_home
from outlast.fleet.blockage import Blockage
from outlast.fleet.current_build import promote_if_unclaimed
from outlast.fleet.drain import FleetDrain
from outlast.fleet.exit_report import ExitReporter
from outlast.fleet.exits import Exit, Exits, cause_of
from outlast.fleet.file_watch import WatchedFile
from outlast.fleet.fork_server_client import SpawnError
from outlast.fleet.messages import (
    Counted,
    Exiting,
    Hosted,
    Message,
    StateChanged,
    StoreGone,
)
from outlast.fleet.metrics import Metrics
from outlast.fleet.monitor import ProcessMonitor, ProcessSlot, describe
from outlast.fleet.orphans import watch_orphans
from outlast.fleet.parent_heartbeats import ParentHeartbeats
from outlast.fleet.process_kinds import (
    CRASH_SPANS_SUFFIX,
    RECORDER_SUFFIX,
    ExitReason,
    ProcessKind,
    ProcessState,
    crash_spans_path,
    recorder_path,
    worker_identity,
)
from outlast.fleet.spawn import Spawner
from outlast.fleet.store_watch import STORE_TROUBLE_NOTE_S, StoreTroubleWatch
from outlast.fleet.subprocesses import become_subreaper
from outlast.fleet.watchdog import Leaks, Watchdog
from outlast.fleet.worker_process import WorkerProcess
from outlast.process.stop_signals import on_stop
from outlast.settings import Settings
from outlast.telemetry import setup
from outlast.temporal.connect import connect_when_available

logger = logging.getLogger("outlast.fleet")

# Reports that wait for an absent server do not hold a stopping parent for long.
FINAL_REPORT_LIMIT_S = 5.0

# How long the next birth waits while others of its kind take over from the dead one.
RESPAWN_DELAY_S = 0.1

# How long a machine that has no room for another process is left alone.
RESPAWN_FAILED_PAUSE_S = 1.0

FLEET_LOST = "its fleet was lost"

EXIT_CANNOT_START = 70  # EX_SOFTWARE, for systemd or compose to act on
EXIT_STORE_LOST = 74  # EX_IOERR: starting again does not help


class Fleet:
    """
    The worker processes of one host: one for workflows, one for suspects, the others
    for agents, and where an agent asks for it as many for one attempt each.

    :param ready: called once, when all of them poll.
    """

    def __init__(self, settings: Settings, ready: Callable[["Fleet"], None]) -> None:
        self.settings = settings
        self.home = ensure_home(settings)
        agents = [ProcessSlot(ProcessKind.AGENTS) for _ in range(settings.processes)]
        self.slots = [
            ProcessSlot(ProcessKind.WORKFLOWS),
            *agents,
            ProcessSlot(ProcessKind.QUARANTINE),
        ]
        self.reporter = ExitReporter(self._connect)
        self.monitor = ProcessMonitor(self.slots, self.home, settings.watchdog)
        self.exits = Exits(self.monitor.oom_kills)
        self.drain = FleetDrain(self.slots, self.home, settings.drain_grace_s)
        self.metrics = Metrics()
        self._ready = ready
        self._announced = False
        self._failed: str | None = None
        self._code = 0
        self._waiting = StoreTroubleWatch(self.home)
        self._start_errors: BadInputError | None = None
        self._reports: set[asyncio.Task[Any]] = set()
        self._own_recorders: set[Path] = set()  # recorders that we settle ourselves
        workflows, agents_too = (
            Spawner(ProcessKind.WORKFLOWS),
            Spawner(ProcessKind.AGENTS),
        )
        self._spawners = {
            ProcessKind.WORKFLOWS: workflows,
            ProcessKind.AGENTS: agents_too,
            ProcessKind.QUARANTINE: agents_too,
            ProcessKind.ISOLATED: agents_too,
        }
        self._keeping: set[asyncio.Task[None]] = set()

    async def run(self, tied: bool = False) -> int:
        """
        Keep the children alive until a signal; returns the exit code.

        :param tied: also until standard input ends, whose other end the process that
            has started us holds.
        :raises BadInputError: when the agents cannot be loaded or a role is unknown.
        """
        loop = asyncio.get_running_loop()
        on_stop(self.drain.on_signal)
        if tied:
            loop.add_reader(0, self._read_end)
        become_subreaper()  # of workers started by exec, or left by a dead zygote
        loop.add_signal_handler(signal.SIGCHLD, self._reap_adopted)
        beats = ParentHeartbeats(self.settings.timing, self.reporter.client)
        watching = [
            asyncio.ensure_future(self._report_orphans()),
            asyncio.ensure_future(self.monitor.check(beats)),
            asyncio.ensure_future(self.monitor.kill_non_polling(self.reporter.client)),
            asyncio.ensure_future(self._waiting.run()),
            asyncio.ensure_future(self._monitor()),
            asyncio.ensure_future(
                promote_if_unclaimed(self.reporter.client, self.settings.build)
            ),
        ]
        try:
            self._run_slots(self.slots)
            while self._keeping:
                done, _ = await asyncio.wait(
                    self._keeping, return_when=asyncio.FIRST_COMPLETED
                )
                self._keeping -= done
                for each in done:
                    each.result()
            if self._reports:
                await asyncio.wait(self._reports, timeout=FINAL_REPORT_LIMIT_S)
        finally:
            for each in watching:
                each.cancel()
            for spawner in self._spawners.values():
                spawner.close()
        if self._start_errors is not None:
            raise self._start_errors
        return self._code

    def _run_slots(self, places: list[ProcessSlot]) -> None:
        self._keeping |= {
            asyncio.ensure_future(self._run_slot(each)) for each in places
        }

    def _isolate(self) -> None:
        """
        Add the processes that play one attempt each, once.
        """
        if self.drain.has_started or self.slots[-1].kind is ProcessKind.ISOLATED:
            return
        places = [
            ProcessSlot(ProcessKind.ISOLATED) for _ in range(self.settings.processes)
        ]
        self.slots += places
        self._run_slots(places)

    def _read_end(self) -> None:
        """
        Drain when the process that has started us is gone.
        """
        if not os.read(0, 1024):
            asyncio.get_running_loop().remove_reader(0)
            if not self.drain.has_started:
                logger.warning("fleet.orphaned: its owner is gone; it drains")
            self.stop()

    def _reap_adopted(self) -> None:
        for spawner in set(self._spawners.values()):
            spawner.workers.reap_adopted()

    def failure(self) -> dict[str, str]:
        """
        Say why it cannot begin, where it has never been whole: `refused` is what its
        user can mend, `failed` all else.
        """
        if self._announced:
            return {}
        if self._start_errors is not None:
            return {"refused": str(self._start_errors)}
        return {"failed": self._failed} if self._failed is not None else {}

    async def _report_orphans(self) -> None:
        """
        Report what workers in our home had in hand whose own parent is dead. Which of
        them had workflows nobody knows any more.
        """
        await self.reporter.client()  # who has no server holds no lock
        for spans_file in (self.home / "run").glob(f"*{CRASH_SPANS_SUFFIX}"):
            if not spans_file.with_suffix(RECORDER_SUFFIX).exists():
                setup.export_crash_spans(spans_file, FLEET_LOST)
        async for lost in watch_orphans(self.home / "run", self._own_recorders):
            self._own_recorders.update(lost)
            self._report(self._report_lost_fleet(lost))

    async def _report_lost_fleet(self, lost: dict[Path, bool]) -> None:
        """
        Report for another fleet's dead workers, each drained or not.
        """
        if not all(lost.values()):
            # First: what is reported would wait for the dead one's queue.
            await self.reporter.reset_sticky_queues()
        for recorder in lost:
            setup.export_crash_spans(
                recorder.with_suffix(CRASH_SPANS_SUFFIX), FLEET_LOST
            )
        reports = (
            self.reporter.report_all(
                each, int(each.stem), Exit(FLEET_LOST, drained=drained)
            )
            for each, drained in lost.items()
        )
        await asyncio.gather(*reports)
        self._own_recorders.difference_update(lost)

    def describe(self) -> dict[str, Any]:
        """
        List the processes, as the ready line shows them.
        """
        workers = [
            {"pid": child.pid, "kind": child.kind}
            for child in self.slots
            # The others serve suspects, or end with their first attempt: see /health.
            if child.kind in (ProcessKind.WORKFLOWS, ProcessKind.AGENTS)
        ]
        return {"fleet": os.getpid(), "workers": workers}

    def snapshot(self) -> dict[str, Any]:
        """
        Say how every process is, as `GET /health` shows it.
        """
        return {
            "fleet": os.getpid(),
            "build": self.settings.build,
            "ready": all(child.polling for child in self.slots),
            "stopping": self.drain.has_started,
            "waits_for": self._waiting.describe(),
            "processes": [describe(child, self.home) for child in self.slots],
            "restarts": sum(child.restarts for child in self.slots),
            "reported": self.reporter.reported,
            "watchdog_kills": self.monitor.watchdog_kills,
            "counts": self.metrics.snapshot(),
        }

    def stop(self) -> None:
        """
        Drain all children.
        """
        self.drain.begin()

    async def _connect(self) -> Any:
        never = asyncio.Event()
        client = await connect_when_available(never, f"{os.getpid()}:fleet")
        assert client is not None
        return client

    async def _run_slot(self, slot: ProcessSlot) -> None:
        """
        Fill one place until the fleet stops.
        """
        while not self.drain.has_started:
            try:
                code = await self._run_process(slot)
            except BadInputError as error:
                self._start_errors = error
                self.stop()
                return
            except SpawnError as error:
                logger.warning("worker.spawn_failed %s: %s", slot.kind, error)
                await self._wait_for_resources(slot)
                continue
            if self.drain.has_started:
                return
            slot.restarts += not slot.done
            if slot.died_before_polling:
                await self._charge_restart(slot, code)

    async def _wait_for_resources(self, slot: ProcessSlot) -> None:
        """
        Wait until the machine may have room for another process: as long as it takes
        where the fleet has been whole and others of it work, else within the budget.
        """
        slot.ended.set()
        if self._announced and any(each.polling for each in self.slots):
            await self.drain.wait_until_draining(RESPAWN_FAILED_PAUSE_S)
        else:
            await self._charge_restart(slot, None)

    async def _charge_restart(self, slot: ProcessSlot, code: int | None) -> None:
        """
        Wait after a death before the first poll, or give up. A death in service is
        not charged here but to the attempts in hand.
        """
        if slot.exit_reason is ExitReason.BAD_INPUT:
            self._start_errors = BadInputError(slot.exit_message)
            self.stop()
            return
        slot.restart_intensity.record(time.monotonic())
        if slot.restart_intensity.exceeded:
            why = slot.exit_message or cause_of(code)
            self._give_up(slot, f"they die before they work: {why}")
        else:
            await self.drain.wait_until_draining(slot.restart_intensity.backoff_s)

    async def _run_process(self, slot: ProcessSlot) -> int | None:
        """
        Start the child's process, stay with it until it is dead, then report what it
        had in hand.
        """
        slot.watchdog = Watchdog(self.settings.memory_cap, self.settings.timing)
        slot.blockage = Blockage()
        slot.leaks = Leaks(
            quarantined=slot.kind in (ProcessKind.QUARANTINE, ProcessKind.ISOLATED)
        )
        slot.killed_for, slot.draining = None, asyncio.Event()
        slot.exit_reason, slot.exit_message = None, ""
        slot.ended = asyncio.Event()
        life = await self._spawners[slot.kind].spawn(slot.kind)
        slot.state, slot.process, slot.breakers = ProcessState.STARTING, life, {}
        slot.spawned_at, slot.has_ticked = time.monotonic(), False
        self._own_recorders.add(recorder_path(self.home, life.pid))
        draining = asyncio.ensure_future(self.drain.drain(slot, life))
        code = await life.wait(lambda message: self._on_message(slot, message))
        draining.cancel()
        self._handle_exit(slot, life, code)
        if not slot.done and self._has_healthy_sibling(slot):
            # A newborn takes a core for a while, which whoever takes over needs more.
            await self.drain.wait_until_draining(RESPAWN_DELAY_S)
        return code

    def _handle_exit(
        self, slot: ProcessSlot, process: WorkerProcess, code: int | None
    ) -> None:
        """
        Note that the child's process is dead, and report what it had in hand.
        """
        recorder = recorder_path(self.home, process.pid)
        ended = self.exits.read(slot, code, recorder)
        # At once: else those that die together would each wait for the others' help.
        slot.done = ended.drained and slot.kind is ProcessKind.ISOLATED
        young = (
            slot.state is ProcessState.STARTING
            or slot.exit_reason is ExitReason.WORKER_STOPPED
        )
        # A storm kills the newborn too: that is no sign that they cannot start.
        slot.died_before_polling = young and not (self._announced and ended.in_storm)
        slot.state = ProcessState.DEAD
        slot.ended.set()
        if slot.done:  # too often to ask the server about every open mission
            reports = self._report(self.reporter.report(recorder, ended))
        else:
            reports = self._report(
                self.reporter.report_all(recorder, process.pid, ended)
            )
        reports.add_done_callback(lambda _: self._own_recorders.discard(recorder))
        if not ended.drained:  # else it has signed off by itself
            logger.warning("worker.died %s %s: %s", slot.kind, process.pid, ended.cause)
            identity = worker_identity(process.pid, slot.kind)
            self._report(self.reporter.deregister_worker(identity, ended.cause))
            if slot.kind is ProcessKind.WORKFLOWS and not slot.died_before_polling:
                self._report(self.reporter.reset_sticky_queues())
        # After the report, which is waited for.
        spans_file = crash_spans_path(self.home, process.pid)
        asyncio.get_running_loop().call_soon(
            setup.export_crash_spans, spans_file, ended.cause
        )

    def _has_healthy_sibling(self, slot: ProcessSlot) -> bool:
        return any(
            each.polling
            for each in self.slots
            if each is not slot and each.kind is slot.kind
        )

    def _report(self, report: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(report)
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return task

    def _on_message(self, slot: ProcessSlot, message: Message) -> None:
        match message:
            case Counted():
                self.metrics.add(message)
                slot.breakers.update(message.breakers)
            case Hosted():
                slot.polls = message.polls
                if message.isolated:
                    self._isolate()
            case StoreGone():
                self._stop_for_lost_store(message.why)
            case Exiting():
                slot.exit_reason, slot.exit_message = message.reason, message.why
                if message.reason is ExitReason.STORE:
                    self._stop_for_lost_store(message.why)
            case StateChanged():
                self._on_state(slot, message.state)

    def _on_state(self, slot: ProcessSlot, state: ProcessState) -> None:
        slot.state = state
        if state is ProcessState.DRAINED:
            slot.ended.set()
        if not self._announced and all(each.polling for each in self.slots):
            self._announced = True
            self._ready(self)

    def _give_up(self, slot: ProcessSlot, why: str) -> None:
        if self._failed is None:
            logger.error("fleet.gave_up on %s processes: %s", slot.kind, why)
            self._failed = f"it gave up on {slot.kind} processes: {why}"
            self._code = EXIT_CANNOT_START
        self.stop()

    async def _monitor(self) -> None:
        """
        Look at a store in a file from when all workers have it open.
        """
        store = self.settings.store
        eye = WatchedFile(store if isinstance(store, Path) else None)
        while True:
            await asyncio.sleep(STORE_TROUBLE_NOTE_S)
            if self._announced and (why := eye.missing()):
                self._stop_for_lost_store(why)

    def _stop_for_lost_store(self, why: str) -> None:
        """
        Stop, since what is worked on now can be kept nowhere.
        """
        if self._failed is None:
            logger.error("store.lost: %s", why)
            self._failed, self._code = why, EXIT_STORE_LOST
        self.stop()
