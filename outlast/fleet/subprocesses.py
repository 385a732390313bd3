"""
What worker processes have started: found, killed and reaped once the worker is dead.

A process group does not hold it together, since MCP's own stdio client starts a new
session, nor does the environment, which that client clears. So each worker carries a
mark that everything below it inherits, through fork, exec, new sessions and double
forks: its soft limit of a resource that Linux has not used since 2.4. The process that
spawns workers is a subreaper: what loses its parent below a worker becomes its child.
"""

import contextlib
import ctypes
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "linux":
    import resource

logger = logging.getLogger("outlast.fleet")

PR_SET_CHILD_SUBREAPER = 36
RLIMIT_LOCKS = 10  # of file locks; the module has no name for it
MARK_BITS = 62  # a limit has 64, and all of them set mean none

# The next attempt waits for it. What is killed is dead within milliseconds, unless it
# hangs in the kernel: so long after the last new process was found, and in all.
SUBPROCESS_END_S = 0.1
MAX_SUBPROCESS_END_S = 1.0
SUBPROCESS_CHECK_S = 0.0001

PROC_FOLDER = Path("/proc")


def become_subreaper() -> bool:
    """
    Be the parent of what loses its own below us; False where there is no such thing.
    """
    if sys.platform != "linux":
        return False
    done: int = ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return done == 0


def new_mark() -> int:
    """
    Make a mark that no other process of this machine has.
    """
    return secrets.randbits(MARK_BITS)


def set_mark(mark: int) -> None:
    """
    Carry *mark* from here on, as does all that this process will start.
    """
    if sys.platform != "linux":
        return
    try:
        _, most = resource.getrlimit(RLIMIT_LOCKS)
        resource.setrlimit(RLIMIT_LOCKS, (mark, most))
    except (OSError, ValueError) as error:
        logger.warning(
            "subprocesses.unmarked: what agents start outlives a killed worker: %s",
            error,
        )


class WorkerMarks:
    """
    The workers that this process has spawned, by pid with their marks.
    """

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._marks)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._marks))

    def add(self, pid: int, mark: int) -> None:
        self._marks[pid] = mark

    def reap(self, pid: int) -> int | None:
        """
        End what the worker *pid*, which is dead or about to be, has started, then reap
        it: until then its number is nobody else's. Returns its exit code, None where
        another is its parent.
        """
        mark = self._marks.pop(pid, None)
        with contextlib.suppress(ChildProcessError):  # what it loses becomes ours first
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if mark is not None and (left := end_marked(mark, pid)):
            logger.warning("subprocesses.left of worker %s: %s do not end", pid, left)
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            return None

    def reap_dead(self) -> Iterator[tuple[int, int | None]]:
        """
        Reap the workers that have died, each with its exit code, and everything else
        that has.
        """
        while (ended := _peek()) is not None:
            if ended in self._marks:
                yield ended, self.reap(ended)
            else:
                _reap(ended)

    def reap_adopted(self) -> None:
        """
        Reap what workers have started and lost, and nothing else.
        """
        marks = set(self._marks.values())
        for pid in children():
            if pid not in self._marks and read_mark(pid) in marks and _has_ended(pid):
                _reap(pid)


def end_marked(mark: int, worker: int) -> list[int]:
    """
    Kill all that carries *mark* and wait until it is dead, also what is forked
    meanwhile; returns the pids of what does not end in time.

    What loses its parent becomes our child at once. So nothing is left when a look
    finds only what had ended before that look: what lived then is below a child of
    ours that lived then.

    :param worker: the process that was given the mark, which has ended.
    """
    began = found_at = time.monotonic()
    known, ended = {worker}, {worker}
    while not (marked := _carriers(mark)) <= ended:
        alive = [pid for pid in marked if not _has_ended(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended = marked.difference(alive)
        now = time.monotonic()
        if not marked <= known:  # it forks as fast as we look: no pause
            known |= marked
            found_at = now
        elif now - found_at > SUBPROCESS_END_S or now - began > MAX_SUBPROCESS_END_S:
            return alive
        elif alive:
            time.sleep(SUBPROCESS_CHECK_S)
    return []


def _carriers(mark: int) -> set[int]:
    """
    Find what carries *mark* among our children and below those that do.
    """
    found: set[int] = set()
    fresh = {pid for pid in children() if read_mark(pid) == mark}
    while fresh:
        found |= fresh
        below = {pid for parent in fresh for pid in children(str(parent))}
        fresh = {pid for pid in below - found if read_mark(pid) == mark}
    return found


def read_mark(pid: int) -> int | None:
    """
    Read the mark of the process *pid*, also of one that is dead and not reaped.
    """
    try:
        return int(resource.prlimit(pid, RLIMIT_LOCKS)[0])
    except OSError:
        return None  # it is gone, or another user's


def children(parent: str = "self") -> list[int]:
    """
    List the children of a process, by whichever of its threads.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        if parent == "self":  # a kernel without such files
            return [pid for pid in _pids() if _parent_of(pid) == os.getpid()]
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC_FOLDER) if name.isdigit()]


def _has_ended(pid: int) -> bool:
    return _stat(pid)[0] in "ZX"


def _parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """
    Read state, parent and what follows of a process; as dead where it is gone.
    """
    try:
        told = (PROC_FOLDER / str(pid) / "stat").read_bytes()
    except OSError:
        return ["X", "0"]
    # The name in parentheses may hold spaces: what follows it does not.
    return told.rpartition(b")")[2].decode().split()


def _peek() -> int | None:
    """
    Tell a child that has ended, and leave it unreaped.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
