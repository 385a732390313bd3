"""
Use the stack of this home: find it, wait for one that is starting, or start one.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from outlast.contracts.errors import OutlastError, UnavailableError
from outlast.dev.locks import USERS_LOCK, ensure_home, lock
from outlast.dev.stack_state import (
    READY_LIMIT_S,
    STACK_LOG,
    STACK_STOP_S,
    StackReady,
    logs_text,
    read_stack,
    slow_start_text,
)
from outlast.process.programs import child_environment, module_command
from outlast.settings import Settings, has_configured_temporal
from outlast.store.private import open_private
from outlast.temporal.connect import configured_address

READY_CHECK_S = 0.05
# How long new work waits for a stack that is not there yet: a `dev` that was started at
# the same moment has first to import itself.
CONNECT_LIMIT_S = 5.0
# How often one who uses a stack looks whether it is still there, and how long one is
# left alone that does not start.
RESTART_STACK_S = 0.5
MAX_RESTART_STACK_S = 30.0

Notify = Callable[[str], None]


def ignore_notice(_: str) -> None:
    """
    Start without a word.
    """


def find_stack(settings: Settings) -> StackReady | None:
    return read_stack(settings.home.resolve()).ready


async def temporal_of(
    settings: Settings, tell: Notify = ignore_notice, wait_s: float = 0.0
) -> str:
    """
    Find the Temporal that this home uses: the one that the environment names, else the
    home's own stack, waiting for one that is starting, else that of the user's profile.
    The usual port is never tried unasked: another home's server may listen there.

    :param wait_s: how long to wait for a stack of which there is no sign yet.
    :raises UnavailableError: when there is none, with what to do.
    """
    where = configured_address()
    if has_configured_temporal() and where is not None:
        return where
    ready = await _await_found(settings, tell, 0.0 if where else wait_s)
    if ready is not None:
        return ready.address
    if where is not None:
        return where
    raise UnavailableError(
        f"no stack runs on {settings.home.resolve()} and no Temporal is named: start "
        "one with `outlast dev`, add --embedded to what you run, or name "
        "a Temporal that runs: TEMPORAL_ADDRESS=localhost:7233"
    )


async def _await_found(
    settings: Settings, tell: Notify, coming_s: float
) -> StackReady | None:
    """
    Find the home's stack, waiting until it is ready or gone; None where there is none.

    :raises UnavailableError: when that takes too long.
    """
    home, began, told = settings.home.resolve(), time.monotonic(), ""
    while True:
        found, waited = read_stack(home), time.monotonic() - began
        if found.ready or (not found.owned and waited >= coming_s):
            return found.ready
        if waited > READY_LIMIT_S:
            raise UnavailableError(slow_start_text(home))
        limit_s = READY_LIMIT_S if found.owned else coming_s
        what = "is starting" if found.owned else "may be starting"
        waiting = f"waiting for the stack that {what} on {home}, {limit_s:g} s at most"
        if waiting != told:
            tell(waiting)
            told = waiting
        await asyncio.sleep(READY_CHECK_S)


class UsedStack(NamedTuple):
    """
    A stack that is used, and whether that was started for it.
    """

    line: StackReady
    started: bool


@contextlib.contextmanager
def running_stack(
    settings: Settings, tell: Notify = ignore_notice
) -> Iterator[UsedStack]:
    """
    Use the home's stack, starting one if there is none. One that is lost meanwhile is
    started again.

    What was started here is stopped on the way out, unless others use it still.

    :param tell: hears what the wait is for, and when it is given up.
    :raises UnavailableError: when it cannot be started; says where its log lies.
    """
    home = ensure_home(settings)
    user = lock(home / USERS_LOCK, fcntl.LOCK_SH)
    use = _StackUse(home, tell)
    keeping = threading.Thread(target=use.supervise, daemon=True)
    ready = None
    try:
        ready = use.ready()
        keeping.start()
        yield UsedStack(ready, use.starts)
    except KeyboardInterrupt:
        if ready is None:
            tell("not started yet")
        raise
    finally:
        use.leaving.set()
        if keeping.is_alive():
            keeping.join()
        if user is not None:
            os.close(user)
        if use.started is not None:
            _await_end(use.started, home, STACK_STOP_S + 2 * settings.drain_grace_s)


class _StackUse:
    """
    The use of one home's stack, by one process, until it has *left*.
    """

    def __init__(self, home: Path, tell: Notify) -> None:
        self.home = home
        self.started: subprocess.Popen[bytes] | None = None
        self.leaving = threading.Event()
        self._tell = tell

    @property
    def starts(self) -> bool:
        return self.started is not None and self.started.poll() is None

    @property
    def _failed(self) -> bool:
        return self.started is not None and (self.started.returncode or 0) > 0

    def ready(self) -> StackReady:
        """
        Wait until the stack is ready, starting one whenever nobody runs one.

        :raises UnavailableError: when it does not start, or not in time.
        """
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline:
            found = read_stack(self.home)
            if found.ready is not None:
                return found.ready
            if not found.owned and not self.starts:
                if self._failed:
                    raise UnavailableError(self._failure_text())
                self._tell("starting a server and workers …")
                self.started = _start(self.home)
            time.sleep(READY_CHECK_S)
        raise UnavailableError(slow_start_text(self.home))

    def supervise(self) -> None:
        """
        Start a stack again whenever nobody runs one, until we have left.
        """
        pause = RESTART_STACK_S
        try:
            while not self.leaving.wait(pause):
                pause = self._check()
        except (OSError, OutlastError) as error:  # the home is gone, for one
            self._tell(f"the stack is not started again if it ends: {error}")

    def _check(self) -> float:
        if self.starts or read_stack(self.home).owned:
            return RESTART_STACK_S
        failed = self._failed
        again = "the stack is gone: starting a server and workers again …"
        self._tell(self._failure_text() if failed else again)
        self.started = _start(self.home)
        return MAX_RESTART_STACK_S if failed else RESTART_STACK_S

    def _failure_text(self) -> str:
        log = self.home / STACK_LOG
        told = log.read_text(errors="replace").strip().splitlines()
        last = told[-1].removeprefix("error: ") if told else "it said nothing"
        return f"the embedded stack did not start: {last} ({logs_text(self.home)})"


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [*module_command("outlast"), "dev", "--until-unused"]
    log_file = open_private(home / STACK_LOG, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(log_file, "wb") as log:
        return subprocess.Popen(
            command,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it ends when unused, not by our Ctrl-C
        )


def _await_end(started: subprocess.Popen[bytes], home: Path, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while started.poll() is None and time.monotonic() < deadline:
        if _has_other_users(home):
            return
        time.sleep(READY_CHECK_S)


def _has_other_users(home: Path) -> bool:
    """
    Say whether users are left: then the lock can be shared, but not had alone.
    """
    for how, told in ((fcntl.LOCK_EX, False), (fcntl.LOCK_SH, True)):
        found = lock(home / USERS_LOCK, how | fcntl.LOCK_NB)
        if found is not None:
            os.close(found)
            return told
    return False  # the stack itself holds it: it is stopping
