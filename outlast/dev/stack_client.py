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
from typing import Any

from outlast.contracts.errors import OutlastError, UnavailableError
from outlast.dev.locks import USERS, home_of, lock
from outlast.dev.stack_state import (
    LOG,
    READY_LIMIT_S,
    STOP_LIMIT_S,
    logs,
    look,
    slow,
)
from outlast.process.programs import environment, module
from outlast.settings import Settings, temporal_is_named
from outlast.store.private import open_private
from outlast.temporal.connect import named

LOOK_S = 0.05
# How long new work waits for a stack that is not there yet: a `dev` that was started at
# the same moment has first to import itself.
COMING_S = 5.0
# How often one who uses a stack looks whether it is still there, and how long one is
# left alone that does not start.
KEEP_S = 0.5
KEEP_CAP_S = 30.0

Tell = Callable[[str], None]


def say_nothing(_: str) -> None:
    """
    Start without a word.
    """


def running(settings: Settings) -> dict[str, Any] | None:
    """
    Find the stack that runs on this home: its ready line, or None.
    """
    return look(settings.home.resolve()).ready


async def temporal_of(
    settings: Settings, tell: Tell = say_nothing, coming_s: float = 0.0
) -> str:
    """
    Find the Temporal that this home uses: the one that the environment names, else the
    home's own stack, waiting for one that is starting, else that of the user's profile.
    The usual port is never tried unasked: another home's server may listen there.

    :param coming_s: how long to wait for a stack of which there is no sign yet.
    :raises UnavailableError: when there is none, with what to do.
    """
    where = named()
    if temporal_is_named() and where is not None:
        return where
    ready = await _await_found(settings, tell, 0.0 if where else coming_s)
    if ready is not None:
        return str(ready["address"])
    if where is not None:
        return where
    raise UnavailableError(
        f"no stack runs on {settings.home.resolve()} and no Temporal is named: start "
        "one with `outlast dev`, add --embedded to what you run, or name "
        "a Temporal that runs: TEMPORAL_ADDRESS=localhost:7233"
    )


async def _await_found(
    settings: Settings, tell: Tell, coming_s: float
) -> dict[str, Any] | None:
    """
    Find the home's stack, waiting until it is ready or gone; None where there is none.

    :raises UnavailableError: when that takes too long.
    """
    home, began, told = settings.home.resolve(), time.monotonic(), ""
    while True:
        found, waited = look(home), time.monotonic() - began
        if found.ready or (not found.owned and waited >= coming_s):
            return found.ready
        if waited > READY_LIMIT_S:
            raise UnavailableError(slow(home))
        limit_s = READY_LIMIT_S if found.owned else coming_s
        what = "is starting" if found.owned else "may be starting"
        waiting = f"waiting for the stack that {what} on {home}, {limit_s:g} s at most"
        if waiting != told:
            tell(waiting)
            told = waiting
        await asyncio.sleep(LOOK_S)


@contextlib.contextmanager
def used(settings: Settings, tell: Tell = say_nothing) -> Iterator[dict[str, Any]]:
    """
    Use the home's stack, starting one if there is none; yields its ready line, with
    whether it was `started` here. One that is lost meanwhile is started again.

    What was started here is stopped on the way out, unless others use it still.

    :param tell: hears what the wait is for, and when it is given up.
    :raises UnavailableError: when it cannot be started; says where its log lies.
    """
    home = home_of(settings)
    user = lock(home / USERS, fcntl.LOCK_SH)
    use = _Use(home, tell)
    keeping = threading.Thread(target=use.keep, daemon=True)
    ready = None
    try:
        ready = use.ready()
        keeping.start()
        yield {**ready, "started": use.starts}
    except KeyboardInterrupt:
        if ready is None:
            tell("not started yet")
        raise
    finally:
        use.left.set()
        if keeping.is_alive():
            keeping.join()
        if user is not None:
            os.close(user)
        if use.started is not None:
            _await_end(use.started, home, STOP_LIMIT_S + 2 * settings.drain_s)


class _Use:
    """
    The use of one home's stack, by one process, until it has *left*.
    """

    def __init__(self, home: Path, tell: Tell) -> None:
        self.home = home
        self.started: subprocess.Popen[bytes] | None = None
        self.left = threading.Event()
        self._tell = tell

    @property
    def starts(self) -> bool:
        """
        Whether what we have started lives.
        """
        return self.started is not None and self.started.poll() is None

    @property
    def _failed(self) -> bool:
        """
        Whether what we have started has ended by itself, not by a signal, and in vain.
        """
        return self.started is not None and (self.started.returncode or 0) > 0

    def ready(self) -> dict[str, Any]:
        """
        Wait until the stack is ready, starting one whenever nobody runs one.

        :raises UnavailableError: when it does not start, or not in time.
        """
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline:
            found = look(self.home)
            if found.ready is not None:
                return found.ready
            if not found.owned and not self.starts:
                if self._failed:
                    raise UnavailableError(self._why())
                self._tell("starting a server and workers …")
                self.started = _start(self.home)
            time.sleep(LOOK_S)
        raise UnavailableError(slow(self.home))

    def keep(self) -> None:
        """
        Start a stack again whenever nobody runs one, until we have left.
        """
        pause = KEEP_S
        try:
            while not self.left.wait(pause):
                pause = self._look_after()
        except (OSError, OutlastError) as error:  # the home is gone, for one
            self._tell(f"the stack is not started again if it ends: {error}")

    def _look_after(self) -> float:
        """
        Start a stack if nobody runs one; returns how long to leave it alone.
        """
        if self.starts or look(self.home).owned:
            return KEEP_S
        failed = self._failed
        again = "the stack is gone: starting a server and workers again …"
        self._tell(self._why() if failed else again)
        self.started = _start(self.home)
        return KEEP_CAP_S if failed else KEEP_S

    def _why(self) -> str:
        log = self.home / LOG
        told = log.read_text(errors="replace").strip().splitlines()
        last = told[-1].removeprefix("error: ") if told else "it said nothing"
        return f"the embedded stack did not start: {last} ({logs(self.home)})"


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [*module("outlast"), "dev", "--until-unused"]
    log_file = open_private(home / LOG, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(log_file, "wb") as log:
        return subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it ends when unused, not by our Ctrl-C
        )


def _await_end(started: subprocess.Popen[bytes], home: Path, limit_s: float) -> None:
    """
    Wait until the stack is gone, unless somebody else still uses it.
    """
    deadline = time.monotonic() + limit_s
    while started.poll() is None and time.monotonic() < deadline:
        if _others_use(home):
            return
        time.sleep(LOOK_S)


def _others_use(home: Path) -> bool:
    """
    Say whether users are left: then the lock can be shared, but not had alone.
    """
    for how, told in ((fcntl.LOCK_EX, False), (fcntl.LOCK_SH, True)):
        found = lock(home / USERS, how | fcntl.LOCK_NB)
        if found is not None:
            os.close(found)
            return told
    return False  # the stack itself holds it: it is stopping
