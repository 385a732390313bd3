"""
Use the embedded stack of this home, starting one where there is none.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from outlast.contracts.errors import UnavailableError
from outlast.runtime.locks import STACK, USERS, held, home_of, lock
from outlast.runtime.settings import Settings
from outlast.runtime.stack import READY, READY_LIMIT_S, ROOT, STOP_LIMIT_S
from outlast.store.private import open_private

LOOK_S = 0.05

Tell = Callable[[str], None]


def running(settings: Settings) -> dict[str, Any] | None:
    """
    Find the stack that runs on this home: its ready line, or None.
    """
    home = settings.home.resolve()
    if not (home / STACK).exists():
        return None
    with held(home / STACK) as mine:
        if mine:
            return None
    try:
        found: dict[str, Any] = json.loads((home / READY).read_text())
    except (OSError, ValueError):
        return None
    return found


def say_nothing(_: str) -> None:
    """
    Start without a word.
    """


@contextlib.contextmanager
def used(settings: Settings, tell: Tell = say_nothing) -> Iterator[dict[str, Any]]:
    """
    Use the home's stack, starting one if there is none; yields its ready line, with
    whether it was `started` here.

    What was started here is stopped on the way out, unless others use it still.

    :param tell: hears what the wait is for, and when it is given up.
    :raises UnavailableError: when it cannot be started; says where its log lies.
    """
    home = home_of(settings)
    user = lock(home / USERS, fcntl.LOCK_SH)
    started: subprocess.Popen[bytes] | None = None
    ready = None
    try:
        ready = running(settings)
        if ready is None:
            tell("starting a server and workers …")
            started = _start(home)
            ready = _await_ready(settings, started, home)
        yield {**ready, "started": started is not None and started.poll() is None}
    except KeyboardInterrupt:
        if ready is None:
            tell("not started yet")
        raise
    finally:
        if user is not None:
            os.close(user)
        if started is not None:
            _await_end(started, home, STOP_LIMIT_S + 2 * settings.drain_s)


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "starter.py"), "dev", "--until-unused"]
    log_file = open_private(home / "stack.log", os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(log_file, "wb") as log:
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
        time.sleep(LOOK_S)
    told = (home / "stack.log").read_text(errors="replace").strip().splitlines()
    last = told[-1].removeprefix("error: ") if told else "it said nothing"
    raise UnavailableError(f"the embedded stack did not start: {last}")


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
