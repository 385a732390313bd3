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
from outlast.dev.locks import home_of
from outlast.fleet.blockage import Blockage
from outlast.fleet.current_build import take_up
from outlast.fleet.drain import Stopping
from outlast.fleet.exit_report import Reporter
from outlast.fleet.exits import Exit, Exits, cause_of
from outlast.fleet.file_watch import FileEye
from outlast.fleet.fork_server_client import UnbornError
from outlast.fleet.leaks import Leaks
from outlast.fleet.metrics import Tally
from outlast.fleet.monitor import Child, Watch, shown
from outlast.fleet.orphans import orphaned
from outlast.fleet.parent_heartbeats import SilentBeats
from outlast.fleet.process_kinds import (
    RECORDER,
    UNENDED,
    Ending,
    Kind,
    identity_of,
    recorder_of,
    unended_of,
)
from outlast.fleet.spawn import Nursery
from outlast.fleet.store_watch import NOTE_S, Waiting
from outlast.fleet.subprocesses import become_subreaper
from outlast.fleet.watchdog import Watchdog
from outlast.fleet.worker_process import Life
from outlast.process.stop_signals import on_stop
from outlast.settings import Settings
from outlast.telemetry import setup
from outlast.temporal.connect import connect_patiently

logger = logging.getLogger("outlast.fleet")

# Reports that wait for an absent server do not hold a stopping parent for long.
REPORT_AT_END_S = 5.0

# How long the next birth waits while others of its kind take over from the dead one.
TAKE_OVER_S = 0.1

# How long a machine that has no room for another process is left alone.
UNBORN_S = 1.0

LOST = "its fleet was lost"

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
        self.home = home_of(settings)
        agents = [Child(Kind.AGENTS) for _ in range(settings.processes)]
        self.children = [Child(Kind.WORKFLOWS), *agents, Child(Kind.ALONE)]
        self.reporter = Reporter(self._connect)
        self.watch = Watch(self.children, self.home, settings.watchdog)
        self.exits = Exits(self.watch.oom_kills)
        self.stopping = Stopping(self.children, self.home, settings.drain_s)
        self.tally = Tally()
        self._ready = ready
        self._announced = False
        self._failed: str | None = None
        self._code = 0
        self._waiting = Waiting(self.home)
        self._refused: BadInputError | None = None
        self._reports: set[asyncio.Task[Any]] = set()
        self._ours: set[Path] = set()  # recorders that we settle ourselves
        workflows, agents_too = Nursery(Kind.WORKFLOWS), Nursery(Kind.AGENTS)
        self._nurseries = {
            Kind.WORKFLOWS: workflows,
            Kind.AGENTS: agents_too,
            Kind.ALONE: agents_too,
            Kind.ISOLATED: agents_too,
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
        on_stop(self.stopping.signalled)
        if tied:
            loop.add_reader(0, self._read_end)
        become_subreaper()  # of workers started by exec, or left by a dead zygote
        loop.add_signal_handler(signal.SIGCHLD, self._reap_strays)
        beats = SilentBeats(self.settings.timing, self.reporter.client)
        watching = [
            asyncio.ensure_future(self._adopt()),
            asyncio.ensure_future(self.watch.look(beats)),
            asyncio.ensure_future(self.watch.listen(self.reporter.client)),
            asyncio.ensure_future(self._waiting.look()),
            asyncio.ensure_future(self._keep_an_eye()),
            asyncio.ensure_future(take_up(self.reporter.client, self.settings.build)),
        ]
        try:
            self._fill(self.children)
            while self._keeping:
                done, _ = await asyncio.wait(
                    self._keeping, return_when=asyncio.FIRST_COMPLETED
                )
                self._keeping -= done
                for each in done:
                    each.result()
            if self._reports:
                await asyncio.wait(self._reports, timeout=REPORT_AT_END_S)
        finally:
            for each in watching:
                each.cancel()
            for nursery in self._nurseries.values():
                nursery.close()
        if self._refused is not None:
            raise self._refused
        return self._code

    def _fill(self, places: list[Child]) -> None:
        self._keeping |= {asyncio.ensure_future(self._keep(each)) for each in places}

    def _isolate(self) -> None:
        """
        Add the processes that play one attempt each, once.
        """
        if self.stopping.begun or self.children[-1].kind is Kind.ISOLATED:
            return
        places = [Child(Kind.ISOLATED) for _ in range(self.settings.processes)]
        self.children += places
        self._fill(places)

    def _read_end(self) -> None:
        """
        Drain when the process that has started us is gone.
        """
        if not os.read(0, 1024):
            asyncio.get_running_loop().remove_reader(0)
            if not self.stopping.begun:
                logger.warning("fleet.orphaned: its owner is gone; it drains")
            self.stop()

    def _reap_strays(self) -> None:
        for nursery in set(self._nurseries.values()):
            nursery.workers.reap_strays()

    def failure(self) -> dict[str, str]:
        """
        Say why it cannot begin, where it has never been whole: `refused` is what its
        user can mend, `failed` all else.
        """
        if self._announced:
            return {}
        if self._refused is not None:
            return {"refused": str(self._refused)}
        return {"failed": self._failed} if self._failed is not None else {}

    async def _adopt(self) -> None:
        """
        Report what workers in our home had in hand whose own parent is dead. Which of
        them had workflows nobody knows any more.
        """
        await self.reporter.client()  # who has no server holds no lock
        for unended in (self.home / "run").glob(f"*{UNENDED}"):
            if not unended.with_suffix(RECORDER).exists():
                setup.end_for_dead(unended, LOST)
        async for lost in orphaned(self.home / "run", self._ours):
            self._ours.update(lost)
            self._report(self._take_over(lost))

    async def _take_over(self, lost: dict[Path, bool]) -> None:
        """
        Report for another fleet's dead workers, each drained or not.
        """
        if not all(lost.values()):
            # First: what is reported would wait for the dead one's queue.
            await self.reporter.free()
        for recorder in lost:
            setup.end_for_dead(recorder.with_suffix(UNENDED), LOST)
        settling = (
            self.reporter.settle_all(each, int(each.stem), Exit(LOST, drained=drained))
            for each, drained in lost.items()
        )
        await asyncio.gather(*settling)
        self._ours.difference_update(lost)

    def describe(self) -> dict[str, Any]:
        """
        List the processes, as the ready line shows them.
        """
        workers = [
            {"pid": child.pid, "kind": child.kind}
            for child in self.children
            # The others serve suspects, or end with their first attempt: see /health.
            if child.kind in (Kind.WORKFLOWS, Kind.AGENTS)
        ]
        return {"fleet": os.getpid(), "workers": workers}

    def snapshot(self) -> dict[str, Any]:
        """
        Say how every process is, as `GET /health` shows it.
        """
        return {
            "fleet": os.getpid(),
            "build": self.settings.build,
            "ready": all(child.polling for child in self.children),
            "stopping": self.stopping.begun,
            "waits_for": self._waiting.shown(),
            "processes": [shown(child, self.home) for child in self.children],
            "restarts": sum(child.restarts for child in self.children),
            "reported": self.reporter.reported,
            "bites": self.watch.bites,
            "counts": self.tally.shown(),
        }

    def stop(self) -> None:
        """
        Drain all children.
        """
        self.stopping.begin()

    async def _connect(self) -> Any:
        never = asyncio.Event()
        client = await connect_patiently(never, f"{os.getpid()}:fleet")
        assert client is not None
        return client

    async def _keep(self, child: Child) -> None:
        """
        Fill one place until the fleet stops.
        """
        while not self.stopping.begun:
            try:
                code = await self._live(child)
            except BadInputError as error:
                self._refused = error
                self.stop()
                return
            except UnbornError as error:
                logger.warning("child.unborn %s: %s", child.kind, error)
                await self._wait_for_room(child)
                continue
            if self.stopping.begun:
                return
            child.restarts += not child.over
            if child.died_young:
                await self._spare(child, code)

    async def _wait_for_room(self, child: Child) -> None:
        """
        Wait until the machine may have room for another process: as long as it takes
        where the fleet has been whole and others of it work, else within the budget.
        """
        child.ended.set()
        if self._announced and any(each.polling for each in self.children):
            await self.stopping.sooner_than(UNBORN_S)
        else:
            await self._spare(child, None)

    async def _spare(self, child: Child, code: int | None) -> None:
        """
        Wait after a death before the first poll, or give up. A death in service is
        not charged here but to the attempts in hand.
        """
        if child.ending is Ending.BAD_INPUT:
            self._refused = BadInputError(child.last_words)
            self.stop()
            return
        child.budget.charge(time.monotonic())
        if child.budget.spent:
            why = child.last_words or cause_of(code)
            self._give_up(child, f"they die before they work: {why}")
        else:
            await self.stopping.sooner_than(child.budget.pause_s)

    async def _live(self, child: Child) -> int | None:
        """
        Start the child's process, stay with it until it is dead, then report what it
        had in hand.
        """
        child.watchdog = Watchdog(self.settings.memory_cap, self.settings.timing)
        child.blockage = Blockage()
        child.leaks = Leaks(alone=child.kind in (Kind.ALONE, Kind.ISOLATED))
        child.killed_for, child.leave = None, asyncio.Event()
        child.ending, child.last_words = None, ""
        child.ended = asyncio.Event()
        life = await self._nurseries[child.kind].birth(child.kind)
        child.state, child.life, child.breakers = "starting", life, {}
        child.born_at, child.signed = time.monotonic(), False
        self._ours.add(recorder_of(self.home, life.pid))
        draining = asyncio.ensure_future(self.stopping.drain(child, life))
        code = await life.ended(lambda message: self._heard(child, message))
        draining.cancel()
        self._bury(child, life, code)
        if not child.over and self._others_poll(child):
            # A newborn takes a core for a while, which whoever takes over needs more.
            await self.stopping.sooner_than(TAKE_OVER_S)
        return code

    def _bury(self, child: Child, life: Life, code: int | None) -> None:
        """
        Note that the child's process is dead, and report what it had in hand.
        """
        recorder = recorder_of(self.home, life.pid)
        ended = self.exits.read(child, code, recorder)
        # At once: else those that die together would each wait for the others' help.
        child.over = ended.drained and child.kind is Kind.ISOLATED
        young = child.state == "starting" or child.ending is Ending.UNFIT
        # A storm kills the newborn too: that is no sign that they cannot start.
        child.died_young = young and not (self._announced and ended.in_storm)
        child.state = "dead"
        child.ended.set()
        if child.over:  # too often to ask the server about every open mission
            settling = self._report(self.reporter.settle(recorder, ended))
        else:
            settling = self._report(self.reporter.settle_all(recorder, life.pid, ended))
        settling.add_done_callback(lambda _: self._ours.discard(recorder))
        if not ended.drained:  # else it has signed off by itself
            logger.warning("child.died %s %s: %s", child.kind, life.pid, ended.cause)
            identity = identity_of(life.pid, child.kind)
            self._report(self.reporter.strike_off(identity, ended.cause))
            if child.kind is Kind.WORKFLOWS and not child.died_young:
                self._report(self.reporter.free())
        # After the report, which is waited for.
        unended = unended_of(self.home, life.pid)
        asyncio.get_running_loop().call_soon(setup.end_for_dead, unended, ended.cause)

    def _others_poll(self, child: Child) -> bool:
        return any(
            each.polling
            for each in self.children
            if each is not child and each.kind is child.kind
        )

    def _report(self, report: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(report)
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return task

    def _heard(self, child: Child, message: dict[str, Any]) -> None:
        if "counts" in message:
            self.tally.add(message)
            child.breakers.update(message["breakers"])
            return
        if "isolated" in message:
            child.polls = message["polls"]
            if message["isolated"]:
                self._isolate()
            return
        if "lost" in message:
            self._lose_store(message["lost"])
            return
        if "ending" in message:
            child.ending, child.last_words = Ending(message["ending"]), message["why"]
            if child.ending is Ending.STORE:
                self._lose_store(child.last_words)
            return
        child.state = message["sign"]
        if child.state == "drained":
            child.ended.set()
        if not self._announced and all(each.polling for each in self.children):
            self._announced = True
            self._ready(self)

    def _give_up(self, child: Child, why: str) -> None:
        if self._failed is None:
            logger.error("fleet.gave_up on %s processes: %s", child.kind, why)
            self._failed = f"it gave up on {child.kind} processes: {why}"
            self._code = EXIT_CANNOT_START
        self.stop()

    async def _keep_an_eye(self) -> None:
        """
        Look at a store in a file from when all workers have it open.
        """
        store = self.settings.store
        eye = FileEye(store if isinstance(store, Path) else None)
        while True:
            await asyncio.sleep(NOTE_S)
            if self._announced and (why := eye.look()):
                self._lose_store(why)

    def _lose_store(self, why: str) -> None:
        """
        Stop, since what is worked on now can be kept nowhere.
        """
        if self._failed is None:
            logger.error("store.lost: %s", why)
            self._failed, self._code = why, EXIT_STORE_LOST
        self.stop()
