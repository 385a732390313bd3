"""
The embedded stack: server and fleet together, for as long as somebody uses them.

Two locks in the home decide everything, and the kernel drops them at death: whoever
holds `stack.lock` runs the stack; every user holds `users.lock` shared. A stack that
was started for a user ends when the last one is gone, however that one went.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.contracts.errors import UnavailableError
from outlast.runtime.embedded import Server, choose_ports
from outlast.runtime.settings import Settings

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
LOOK_S = 0.1
# Looking whether the lock is held takes it for an instant; owning waits that out.
OWN_LIMIT_S = 0.5
ROOT = Path(__file__).parents[2]


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

    async def run(self, announce: Any) -> int:
        """
        Start everything, call *announce* with the ready line, stay until told to stop.

        :raises UnavailableError: when the server or the fleet cannot start.
        :raises BadInputError: when an asked port is in use.
        """
        home = home_of(self.settings)
        stop = _stop_signal()
        with held(home / "stack.lock", OWN_LIMIT_S) as mine:
            if not mine and self.until_unused:
                return 0  # somebody was faster, and whoever wants us uses theirs
            if not mine:
                return await _stay_with(home, announce, stop)
            server = Server(home, *choose_ports(self.port, self.ui_port))
            try:
                return await self._serve(server, home, announce, stop)
            finally:
                (home / "stack.json").unlink(missing_ok=True)
                server.stop()

    async def _serve(
        self, server: Server, home: Path, announce: Any, stop: asyncio.Event
    ) -> int:
        await server.start()
        fleet = await self._start_fleet(server)
        keeping = asyncio.ensure_future(server.keep())
        try:
            line = await _ready_line(fleet, stop)
            if line:
                ready = {"ready": True, "address": server.address, "ui": server.ui}
                _write(home / "stack.json", {**ready, **line})
                announce({**ready, **line})
                return await self._stay(fleet, home, stop)
            return 0
        finally:
            keeping.cancel()
            await _end_fleet(fleet)

    async def _start_fleet(self, server: Server) -> asyncio.subprocess.Process:
        command = [sys.executable, str(ROOT / "worker.py"), "--json"]
        if self.processes is not None:
            command += ["--processes", str(self.processes)]
        return await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "TEMPORAL_ADDRESS": server.address},
            start_new_session=True,  # a Ctrl-C is for us; we drain it
        )

    async def _stay(
        self, fleet: asyncio.subprocess.Process, home: Path, stop: asyncio.Event
    ) -> int:
        """
        Stay until a signal, until nobody uses the stack, or until the fleet ends.
        """
        gone = asyncio.ensure_future(fleet.wait())
        while not stop.is_set() and not gone.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
            if self.until_unused:
                # Held while we stop: a newcomer waits and then starts its own.
                unused = _lock(home / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
                if unused is not None:
                    return 0
        return fleet.returncode or 0


def home_of(settings: Settings) -> Path:
    """
    Make the home, readable by its owner only.
    """
    home = settings.home.resolve()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnavailableError(f"OUTLAST_HOME cannot be made: {error}") from None
    return home


def running(settings: Settings) -> dict[str, Any] | None:
    """
    Find the stack that runs on this home: its ready line, or None.
    """
    home = settings.home.resolve()
    if not (home / "stack.lock").exists():
        return None
    with held(home / "stack.lock") as mine:
        if mine:
            return None
    try:
        found: dict[str, Any] = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return None
    return found


@contextlib.contextmanager
def used(settings: Settings) -> Iterator[dict[str, Any]]:
    """
    Use the home's stack, starting one if there is none; yields its ready line.

    What was started here is stopped on the way out, unless others use it still.

    :raises UnavailableError: when it cannot be started; says where its log lies.
    """
    home = home_of(settings)
    user = _lock(home / "users.lock", fcntl.LOCK_SH)
    started: subprocess.Popen[bytes] | None = None
    try:
        ready = running(settings)
        if ready is None:
            started = _start(home)
            ready = _await_ready(settings, started, home)
        yield ready
    finally:
        if user is not None:
            os.close(user)
        if started is not None:
            _await_end(started, home)


@contextlib.contextmanager
def held(path: Path, limit_s: float = 0.0) -> Iterator[bool]:
    """
    Hold the lock at *path* if nobody else does, or once it is free within *limit_s*;
    yields whether we do.
    """
    deadline = time.monotonic() + limit_s
    lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    while lock is None and time.monotonic() < deadline:
        time.sleep(LOOK_S / 10)
        lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path, how: int) -> int | None:
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "starter.py"), "dev", "--until-unused"]
    with (home / "stack.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it ends when unused, not by our Ctrl-C
        )


def _await_ready(
    settings: Settings, started: subprocess.Popen[bytes], home: Path
) -> dict[str, Any]:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        ready = running(settings)
        if ready is not None:
            return ready
        if started.poll() not in (None, 0):
            break
        time.sleep(LOOK_S / 2)
    told = (home / "stack.log").read_text(errors="replace").strip().splitlines()
    last = told[-1] if told else "it said nothing"
    raise UnavailableError(f"the embedded stack did not start: {last}")


def _await_end(started: subprocess.Popen[bytes], home: Path) -> None:
    """
    Wait until the stack is gone, unless somebody else still uses it.
    """
    deadline = time.monotonic() + STOP_LIMIT_S
    while started.poll() is None and time.monotonic() < deadline:
        if _others_use(home):
            return
        time.sleep(LOOK_S / 2)


def _others_use(home: Path) -> bool:
    """
    Say whether users are left: then the lock can be shared, but not had alone.
    """
    for how, told in ((fcntl.LOCK_EX, False), (fcntl.LOCK_SH, True)):
        lock = _lock(home / "users.lock", how | fcntl.LOCK_NB)
        if lock is not None:
            os.close(lock)
            return told
    return False  # the stack itself holds it: it is stopping


async def _stay_with(home: Path, announce: Any, stop: asyncio.Event) -> int:
    """
    Use the stack that another process runs on this home, and stay as its user.
    """
    deadline = time.monotonic() + READY_LIMIT_S
    while not (home / "stack.json").exists() and not stop.is_set():
        if time.monotonic() > deadline:
            raise UnavailableError("another stack is starting on this home, for long")
        await asyncio.sleep(LOOK_S)
    user = _lock(home / "users.lock", fcntl.LOCK_SH)
    try:
        if not stop.is_set():
            announce(json.loads((home / "stack.json").read_text()))
        await stop.wait()
    finally:
        if user is not None:
            os.close(user)
    return 0


async def _ready_line(
    fleet: asyncio.subprocess.Process, stop: asyncio.Event
) -> dict[str, Any] | None:
    """
    Read the fleet's ready line, or None when we were told to stop before.
    """
    assert fleet.stdout is not None
    reading = asyncio.ensure_future(fleet.stdout.readline())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        return None
    if not reading.result():
        raise UnavailableError("the fleet did not start")
    line: dict[str, Any] = json.loads(reading.result())
    return {"fleet": line["fleet"], "workers": line["workers"]}


async def _end_fleet(fleet: asyncio.subprocess.Process) -> None:
    if fleet.returncode is not None:
        return
    fleet.terminate()
    try:
        await asyncio.wait_for(fleet.wait(), STOP_LIMIT_S)
    except TimeoutError:
        fleet.kill()
        await fleet.wait()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)
