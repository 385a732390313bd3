"""
The embedded stack: server and fleet together, for as long as somebody uses them.

Locks in the home decide everything, and the kernel drops them at death: the process
that runs the stack holds `stack.lock`, the server itself `server.lock`, and every user
`users.lock` shared. A stack that was started for a user ends when the last one is gone,
however that one went. When the process that runs it is killed, its fleet drains by
itself, and the server is ended by the next start, which goes on with its missions.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from outlast.contracts.errors import UnavailableError
from outlast.dev.locks import STACK_LOCK, USERS_LOCK, ensure_home, lock, locked
from outlast.dev.reload import changes, why_not_loadable
from outlast.dev.server import DevServer, start_server
from outlast.dev.server_lock import end_left_server
from outlast.dev.stack_fleet import (
    FleetEnd,
    FleetStart,
    NextFleet,
    after_fleet,
    read_line,
    start_fleet,
)
from outlast.dev.stack_state import (
    READY_FILE,
    READY_LIMIT_S,
    STACK_STOP_S,
    StackReady,
    read_stack,
    slow_start_text,
)
from outlast.process.programs import end_process
from outlast.process.stop_signals import on_stop
from outlast.settings import Settings
from outlast.store.private import replace_private

logger = logging.getLogger("outlast.process")

STACK_CHECK_S = 0.1
# Looking whether the lock is held takes it for an instant; owning waits that out.
STACK_LOCK_LIMIT_S = 0.5
TAKES_OVER = "the stack on this home has ended: this one takes its place"
NOT_RELOADED = "the workers do not start with it: mend the file; missions wait"

Announce = Callable[[StackReady], None]


@dataclass
class Stack:
    """
    A server and its fleet, with their state in the settings' home.
    """

    settings: Settings
    port: int | None = None
    ui_port: int | None = None
    processes: int | None = None
    until_unused: bool = False
    fleet_options: tuple[str, ...] = ()
    reloads: bool = False  # when agents' files change
    _health_port: int | None = field(default=None, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self, on_ready: Announce) -> int:
        """
        Start everything, call *on_ready* with the ready line, stay until told to stop.
        Where another process runs a stack on this home already, use that one, and take
        its place when it ends.

        :raises UnavailableError: when the server or the fleet cannot start.
        :raises BadInputError: when an asked port is in use.
        """
        home = ensure_home(self.settings)
        stop = asyncio.Event()
        on_stop(stop.set)
        while not stop.is_set():
            with locked(home / STACK_LOCK, STACK_LOCK_LIMIT_S) as mine:
                if mine:
                    return await self._run_as_owner(home, on_ready, stop)
            if self.until_unused:
                return 0  # another stack was faster, and our user uses that one
            await _wait_with_owner(home, on_ready, stop)
            if not stop.is_set():
                _print_note(TAKES_OVER)
        return 0

    async def _run_as_owner(
        self, home: Path, announce: Announce, stop: asyncio.Event
    ) -> int:
        (home / READY_FILE).unlink(missing_ok=True)  # of a stack that was killed
        if left := await asyncio.to_thread(end_left_server, home):
            _print_note(
                f"the server that a killed stack had left running (process {left.pid}, "
                f"port {left.port}) is ended; its missions go on here"
            )
        server = await start_server(home, self.port, self.ui_port)
        try:
            return await self._serve(server, home, announce, stop)
        finally:
            (home / READY_FILE).unlink(missing_ok=True)
            server.stop()

    async def _serve(
        self, server: DevServer, home: Path, on_ready: Announce, stop: asyncio.Event
    ) -> int:
        """
        Keep the server alive and run one fleet after the other; returns the exit code.
        """
        beside = [asyncio.ensure_future(server.supervise())]
        if self.reloads:
            beside.append(asyncio.ensure_future(self._watch_agents()))
        try:
            return await self._run_fleets(server, home, on_ready, stop)
        finally:
            for each in beside:
                each.cancel()

    async def _run_fleets(
        self, server: DevServer, home: Path, on_ready: Announce, stop: asyncio.Event
    ) -> int:
        start, announce = FleetStart.FIRST, on_ready
        while True:
            end = await self._run_fleet(server, home, announce, stop)
            changed, stopping = self._changed.is_set(), stop.is_set()
            action = after_fleet(end, start, changed=changed, stopping=stopping)
            if action is NextFleet.FAIL:
                raise end.failure
            if action is NextFleet.NONE:
                return end.code
            if action is NextFleet.AWAIT_CHANGE:
                _print_note(NOT_RELOADED)
                await _first_of(self._changed, stop)
                if stop.is_set():
                    return 0
            if action is NextFleet.RESTART:
                logger.warning("fleet.died: killed by signal %s", -end.code)
                start, announce = FleetStart.KILLED, _announce_nothing
                continue
            self._changed.clear()
            start, announce = FleetStart.RELOADED, _reload_notice()

    async def _watch_agents(self) -> None:
        async for files in changes(self.settings.users_modules):
            names = ", ".join(each.name for each in files)
            if why := await why_not_loadable():
                _print_note(
                    f"{names} changed, not loaded: {why}; the workers before go on"
                )
                continue
            _print_note(f"{names} changed: the workers drain and start anew with it")
            self._changed.set()

    async def _run_fleet(
        self, server: DevServer, home: Path, announce: Announce, stop: asyncio.Event
    ) -> FleetEnd:
        fleet = await start_fleet(server.address, self._options())
        try:
            line = await read_line(fleet, stop)
            if line is None or not line.ready:
                return FleetEnd(0 if stop.is_set() else await fleet.wait(), line)
            self._health_port = urlsplit(line.health).port
            ready = line.ready_stack(server.address, server.ui)
            replace_private(home / READY_FILE, ready.model_dump_json(exclude_none=True))
            announce(ready)
            return FleetEnd(await self._wait_until_done(fleet, home, stop), line)
        finally:
            await end_process(fleet, STACK_STOP_S + 2 * self.settings.drain_grace_s)

    def _options(self) -> list[str]:
        options = [*self.fleet_options]
        if self.processes is not None:
            options += ["--processes", str(self.processes)]
        if self._health_port is not None:  # where the fleet before it was asked
            options += ["--health-port", str(self._health_port)]
        return options

    async def _wait_until_done(
        self, fleet: asyncio.subprocess.Process, home: Path, stop: asyncio.Event
    ) -> int:
        """
        Stay until a signal, until nobody uses the stack, until the fleet ends, or until
        there is another one to start.
        """
        gone = asyncio.ensure_future(fleet.wait())
        unused = None
        while not (stop.is_set() or gone.done() or self._changed.is_set() or unused):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STACK_CHECK_S)
            if self.until_unused:
                # Held while we stop: a newcomer waits and then starts its own.
                unused = lock(home / USERS_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stop.is_set() or unused:
            # No command shall begin to use us now.
            (home / READY_FILE).unlink(missing_ok=True)
        return fleet.returncode or 0


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(each.wait()) for each in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


def _reload_notice() -> Announce:
    began = time.monotonic()
    return lambda _: _print_note(f"reloaded in {time.monotonic() - began:.1f} s")


def _print_note(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # what `dev` says of itself
    sys.stderr.flush()


def _announce_nothing(_: StackReady) -> None: ...


async def _wait_with_owner(home: Path, announce: Announce, stop: asyncio.Event) -> None:
    """
    Use the stack that another process runs on this home until it ends or *stop*.
    """
    deadline = time.monotonic() + READY_LIMIT_S
    user, told = None, False
    try:
        while not stop.is_set() and (found := read_stack(home)).owned:
            if user is None:  # not to be had while a stack that nobody uses ends
                user = lock(home / USERS_LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if user is not None and found.ready and not told:
                announce(found.ready)
                told = True
            if not told and time.monotonic() > deadline:
                raise UnavailableError(slow_start_text(home))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STACK_CHECK_S)
    finally:
        if user is not None:
            os.close(user)
