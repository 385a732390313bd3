"""
The fleet's parent: keeps worker processes alive and reports what died with them.

It runs no agent code, so nothing an agent does can reach it. A death in service is
answered at once: a new process is started, and what the dead one had in flight is
reported, at the same time. A process that dies before it polls is tried again ever
more slowly, and after a few times in a row the parent gives up, so that whatever keeps
the parent alive can see.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from temporalio.client import Client

from outlast.contracts.errors import BadInputError
from outlast.dev.locks import ensure_home
from outlast.fleet.current_build import promote_if_unclaimed
from outlast.fleet.deaths import DeathReports
from outlast.fleet.drain import FleetDrain
from outlast.fleet.exit_report import ExitReporter
from outlast.fleet.exits import Exits, cause_of
from outlast.fleet.file_watch import WatchedFile
from outlast.fleet.fleet_state import FleetState
from outlast.fleet.fork_server_client import SpawnError
from outlast.fleet.monitor import ProcessMonitor
from outlast.fleet.parent_heartbeats import ParentHeartbeats
from outlast.fleet.process_kinds import (
    ExitReason,
    ProcessKind,
)
from outlast.fleet.process_slot import ProcessSlot, describe
from outlast.fleet.spawn import Spawner
from outlast.fleet.store_watch import STORE_TROUBLE_NOTE_S, StoreTroubleWatch
from outlast.fleet.subprocesses import become_subreaper
from outlast.process.stop_signals import on_stop
from outlast.settings import Settings
from outlast.temporal.connect import connect_when_available

logger = logging.getLogger("outlast.fleet")

# How long the next spawn waits while others of its kind continue the dead one's work.
RESPAWN_DELAY_S = 0.1

# How long a machine that has no room for another process is left alone.
RESPAWN_FAILED_PAUSE_S = 1.0


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
        self.deaths = DeathReports(self.home, self.reporter)
        self.monitor = ProcessMonitor(self.slots, self.home, settings.watchdog)
        self.drain = FleetDrain(self.slots, self.home, settings.drain_grace_s)
        exits = Exits(self.monitor.oom_kills)
        self.state = FleetState(self.slots, self.drain, exits, self.deaths)
        self.state.on_ready = lambda: ready(self)
        self.state.on_isolated = self._isolate
        self._store_trouble = StoreTroubleWatch(self.home)
        workflows = Spawner(ProcessKind.WORKFLOWS)
        self._spawners = dict.fromkeys(ProcessKind, Spawner(ProcessKind.AGENTS))
        self._spawners[ProcessKind.WORKFLOWS] = workflows
        self._filling: set[asyncio.Task[None]] = set()

    async def run(self, tied: bool = False) -> int:
        """
        Keep the worker processes alive until a signal; returns the exit code.

        :param tied: also until standard input ends, whose other end the process that
            has started us holds.
        :raises BadInputError: when the agents cannot be loaded or a role is unknown.
        """
        loop = asyncio.get_running_loop()
        on_stop(self.drain.on_signal)
        if tied:
            loop.add_reader(0, self._read_end)
        become_subreaper()  # of workers started by exec, or left by a dead fork server
        loop.add_signal_handler(signal.SIGCHLD, self._reap_adopted)
        watching = [asyncio.ensure_future(each) for each in self._watches()]
        try:
            self._fill(self.slots)
            await self._wait_for_slots()
            await self.deaths.finish()
        finally:
            for watch in watching:
                watch.cancel()
            for spawner in self._spawners.values():
                spawner.close()
        if self.state.refused is not None:
            raise self.state.refused
        return self.state.exit_code

    def _watches(self) -> tuple[Coroutine[Any, Any, None], ...]:
        client = self.reporter.client
        heartbeats = ParentHeartbeats(self.settings.timing, client)
        return (
            self.deaths.report_lost_fleets(),
            self.monitor.check(heartbeats),
            self.monitor.kill_non_polling(client),
            self._store_trouble.run(),
            self._watch_store_file(),
            promote_if_unclaimed(client, self.settings.build),
        )

    async def _wait_for_slots(self) -> None:
        """
        Wait until no slot is filled any more, also of those that are added meanwhile.
        """
        while self._filling:
            done, _ = await asyncio.wait(
                self._filling, return_when=asyncio.FIRST_COMPLETED
            )
            self._filling -= done
            for each in done:
                each.result()

    def stop(self) -> None:
        """
        Drain all worker processes.
        """
        self.drain.begin()

    def describe(self) -> dict[str, Any]:
        """
        List the processes, as the ready line shows them.
        """
        workers = [
            {"pid": slot.pid, "kind": slot.kind}
            for slot in self.slots
            # The others serve suspects, or end with their first attempt: see /health.
            if slot.kind in (ProcessKind.WORKFLOWS, ProcessKind.AGENTS)
        ]
        return {"fleet": os.getpid(), "workers": workers}

    def snapshot(self) -> dict[str, Any]:
        """
        Say how every process is, as `GET /health` shows it.
        """
        return {
            "fleet": os.getpid(),
            "build": self.settings.build,
            "ready": all(slot.polling for slot in self.slots),
            "stopping": self.drain.has_started,
            "waits_for": self._store_trouble.describe(),
            "processes": [describe(slot, self.home) for slot in self.slots],
            "restarts": sum(slot.restarts for slot in self.slots),
            "reported": self.reporter.reported,
            "watchdog_kills": self.monitor.watchdog_kills,
            "counts": self.state.metrics.snapshot(),
        }

    def _fill(self, slots: list[ProcessSlot]) -> None:
        self._filling |= {asyncio.ensure_future(self._run_slot(each)) for each in slots}

    async def _run_slot(self, slot: ProcessSlot) -> None:
        """
        Fill one slot until the fleet stops.
        """
        while not self.drain.has_started:
            try:
                code = await self._run_process(slot)
            except BadInputError as error:
                self.state.refuse(error)
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

    async def _run_process(self, slot: ProcessSlot) -> int | None:
        """
        Start a process, stay with it until it is dead, then report what it had in
        flight.
        """
        slot.clear(self.settings)
        process = await self._spawners[slot.kind].spawn(slot.kind)
        slot.fill(process)
        self.deaths.expect(process.pid)
        draining = asyncio.ensure_future(self.drain.drain(slot, process))
        code = await process.wait(lambda message: self.state.on_message(slot, message))
        draining.cancel()
        self.state.on_exit(slot, process.pid, code)
        if not slot.done and self._has_polling_sibling(slot):
            # A new process takes a core for a while, which the siblings need more.
            await self.drain.wait_until_draining(RESPAWN_DELAY_S)
        return code

    async def _wait_for_resources(self, slot: ProcessSlot) -> None:
        """
        Wait until the machine may have room for another process: as long as it takes
        where the fleet has been whole and others of it work, else as for workers that
        cannot start.
        """
        slot.ended.set()
        if self.state.announced and any(each.polling for each in self.slots):
            await self.drain.wait_until_draining(RESPAWN_FAILED_PAUSE_S)
        else:
            await self._charge_restart(slot, None)

    async def _charge_restart(self, slot: ProcessSlot, code: int | None) -> None:
        """
        Wait after a death before the first poll, or give up. A death in service is
        not charged here but to the attempts in flight.
        """
        if slot.exit_reason is ExitReason.BAD_INPUT:
            self.state.refuse(BadInputError(slot.exit_message))
            return
        slot.restart_intensity.record(time.monotonic())
        if slot.restart_intensity.exceeded:
            why = slot.exit_message or cause_of(code)
            self.state.give_up(slot, f"they die before they work: {why}")
        else:
            await self.drain.wait_until_draining(slot.restart_intensity.backoff_s)

    async def _watch_store_file(self) -> None:
        """
        Look at a store in a file from when all workers have it open.
        """
        store = self.settings.store
        file = WatchedFile(store if isinstance(store, Path) else None)
        while True:
            await asyncio.sleep(STORE_TROUBLE_NOTE_S)
            if self.state.announced and (why := file.missing()):
                self.state.stop_for_lost_store(why)

    def _has_polling_sibling(self, slot: ProcessSlot) -> bool:
        return any(
            each.polling
            for each in self.slots
            if each is not slot and each.kind is slot.kind
        )

    def _isolate(self) -> None:
        """
        Add the processes that play one attempt each, once.
        """
        if self.drain.has_started or self.slots[-1].kind is ProcessKind.ISOLATED:
            return
        added = [
            ProcessSlot(ProcessKind.ISOLATED) for _ in range(self.settings.processes)
        ]
        self.slots += added
        self._fill(added)

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

    async def _connect(self) -> Client:
        never = asyncio.Event()
        client = await connect_when_available(never, f"{os.getpid()}:fleet")
        assert client is not None
        return client
