"""
Workers that lose whoever keeps them: their zygote, their parent, or their health; and
what is left of them then.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from mission_driver import (
    Course,
    children,
    ended,
    endless,
    gone,
    noticed,
    parent_of,
    whole,
    workers,
)

from outlast.fleet.fork_server_client import FORK_LIMIT_S
from testkit.processes import FleetProcess, wait_for

MEMORY_MB = 400
WORN_MB = 340  # above three quarters of it, and below all of it

pytestmark = pytest.mark.timeout(60)

# Keeps what it takes, as a cache without a bound does, and is at work a while longer.
HOARDER = f"""
import asyncio
from pathlib import Path
from typing import Any

from outlast import Context, agent

KEPT: list[bytes] = []


def taken_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


@agent("hoard")
async def hoard(given: dict[str, Any], ctx: Context) -> int:
    while taken_mb() < {WORN_MB}:
        KEPT.append(b"x" * 2**22)
    await asyncio.sleep(1.0)
    return taken_mb()
"""

# Makes forking unsafe, and takes its time as large libraries do.
SLOW = """
import threading
import time
from typing import Any

from outlast import Context, agent

threading.Thread(target=threading.Event().wait, daemon=True).start()
time.sleep(2.0)


@agent("slow")
async def slow(given: dict[str, Any], ctx: Context) -> str:
    return "done"
"""


@contextmanager
def leaving_nobody(pids: list[int]) -> Iterator[None]:
    """
    Kill whoever of *pids* is left at the end of a test that has failed.
    """
    try:
        yield
    finally:
        for pid in pids:
            if not gone(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def replaced(fleet: FleetProcess, pid: int) -> Callable[[], bool]:
    """
    Make the question whether the fleet is whole without *pid*.
    """
    return lambda: whole(fleet) and pid not in workers(fleet)


def silent_s(fleet: FleetProcess, pid: int) -> float:
    """
    Say for how long the worker has given no sign.
    """
    (shown,) = [each for each in fleet.health()["processes"] if each["pid"] == pid]
    return float(shown["last_sign_s"])


def test_a_worker_without_its_zygote_dies_as_promptly(own: Course) -> None:
    """
    The zygote is killed, then one of the workers that it had forked: though nobody
    reaps for the parent any more, the task goes on elsewhere within a second, and a
    new worker is born.
    """
    with ended(own.home.fleet(processes=2)) as fleet:
        own.begin({"t": {"steps": 60}})
        holder = own.past(2, "t")["pid"]
        zygote = parent_of(holder)
        assert zygote in children(fleet.process.pid)
        os.kill(zygote, signal.SIGKILL)
        wait_for(lambda: gone(zygote), "the zygote's end")
        own.past(own.past(2, "t")["step"], "t")  # it works on without its zygote

        killed_at = time.time()
        os.kill(holder, signal.SIGKILL)

        assert own.second("t")["at"] - killed_at < 1.0
        assert own.ends() == 0
        own.resumed_in_full("t")
        assert noticed(own) == {"exit report: killed by SIGKILL"}
        wait_for(replaced(fleet, holder), "a new worker", limit_s=10.0)
        assert fleet.stop() == 0


@pytest.mark.parametrize("how", ["block", "burn"])
def test_a_blocked_worker_does_not_outlive_its_parent(own: Course, how: str) -> None:
    """
    Its event loop cannot see that the parent is gone, and no watchdog is left: it ends
    itself within 6 s, like its neighbours, and the next fleet finishes the mission.
    """
    lost = own.home.fleet(processes=2)
    misdeed = {"attempt": 1, "step": 4, "how": how}
    names = ["stuck", "well"]
    own.begin({"stuck": {"steps": 8, "misbehave": misdeed}, "well": {"steps": 60}})
    holder = own.past(2, "stuck")["pid"]
    wait_for(lambda: silent_s(lost, holder) > 0.5, "its silence", limit_s=5.0)
    orphans = workers(lost) + children(lost.process.pid)

    with leaving_nobody(orphans):
        lost.process.kill()
        wait_for(lambda: all(map(gone, orphans)), "the orphans' end", limit_s=6.0)

    later = own.home.fleet(processes=1)
    assert own.ends() == 0
    pids = set(workers(later))
    for name in names:
        assert own.of(name, "end")[0]["pid"] in pids
        own.resumed_in_full(name)
        own.never_twice_at_once(name)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_frozen_zygote_holds_up_no_birth_for_good(own: Course) -> None:
    """
    A worker dies while its zygote is stopped: the task goes on at the neighbour, the
    new worker is started without the zygote once that has not answered for long
    enough, and stopping is as usual.
    """
    with ended(own.home.fleet(processes=2)) as fleet:
        own.begin(endless(["t"]))
        holder = own.past(1, "t")["pid"]
        (neighbour,) = set(fleet.pids("agents")) - {holder}
        zygote = parent_of(holder)
        with leaving_nobody([zygote]):
            os.kill(zygote, signal.SIGSTOP)
            killed_at = time.time()
            os.kill(holder, signal.SIGKILL)

            second = own.second("t")
            assert second["pid"] == neighbour
            assert second["at"] - killed_at < 3.0
            limit_s = FORK_LIMIT_S + 25.0
            wait_for(replaced(fleet, holder), "a new worker", limit_s)
            assert gone(zygote), "what is frozen may wake"
        (fresh,) = set(fleet.pids("agents")) - {neighbour}
        assert parent_of(fresh) == fleet.process.pid
        own.past(second["step"], "t")
        own.resumed_in_full("t")
        own.cancel()
        assert fleet.stop() == 0


def test_a_worker_without_a_zygote_may_import_for_a_while(own: Course) -> None:
    """
    Agents whose module starts a thread are never forked: each worker imports them
    itself, which may take longer than a worker at work may be silent.
    """
    module = own.folder / "slow.py"
    module.write_text(SLOW)
    own.home.extra["OUTLAST_AGENTS"] = str(module)
    own.begin({"t": {}}, role="slow")
    with ended(own.home.fleet(processes=1)) as fleet:
        assert own.ends() == 0
        assert fleet.health()["watchdog_kills"] == 0


def test_a_worn_process_makes_room_once_it_is_idle(own: Course) -> None:
    """
    Above the soft limit it may finish what it has in hand, then a fresh process takes
    its place; no attempt is lost and nobody is killed for it.
    """
    module = own.folder / "hoarder.py"
    module.write_text(HOARDER)
    own.home.extra["OUTLAST_MEMORY_MB"] = str(MEMORY_MB)
    own.home.extra["OUTLAST_AGENTS"] = str(module)
    with ended(own.home.fleet(processes=1)) as fleet:
        worn = []
        for course in (own, Course(own.home, "another", own.folder)):
            course.begin({"t": {}}, role="hoard")
            assert course.ends() == 0
            (attempt,) = course.story()["t"]
            worn.append(attempt["pid"])
            wait_for(replaced(fleet, worn[-1]), "a fresh process", limit_s=10.0)
        assert len(set(worn)) == 2
        health = fleet.health()
        assert health["restarts"] == 2
        assert health["watchdog_kills"] == 0
        assert health["reported"] == 0
        assert fleet.stop() == 0
