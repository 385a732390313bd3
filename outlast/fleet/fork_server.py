"""
A process that has imported everything and does nothing: workers are forked from it.

Forking a worker takes milliseconds where a new interpreter needs two seconds of
imports. It is safe only while there is one thread, no Temporal client, and nothing that
the agents' modules have opened: what an import leaves is looked at after it, threads
before every fork; where that fails, the parent starts workers by exec.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from outlast.contracts.errors import OutlastError
from outlast.fleet.fork_safety import ForkSafety
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks, become_subreaper, new_mark, set_mark
from outlast.fleet.warm_up import warm_up
from outlast.process.stop_signals import ignore_hangup

THREADS_FOLDER = Path("/proc/self/task")


# Beyond the drain time, after which a worker without a parent is killed.
ORPHAN_KILL_S = 4.0
ORPHAN_KILL_CHECK_S = 0.2


def main(kind: ProcessKind) -> None:
    """
    Import what workers of *kind* need, then fork one for each request of the parent,
    which is at the other end of standard input.
    """
    parent = socket.socket(fileno=os.dup(0))
    # Else every worker would hold our end of the channel open after our death.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    ignore_hangup()
    left = ForkSafety()
    try:
        warm_up(kind, lambda message: _send(parent, message), left.watching)
    except OutlastError as error:
        _send(parent, {"unusable": str(error)})
        return
    if left.found:
        _send(parent, {"unsafe": "; ".join(left.found)})
        return
    become_subreaper()
    gc.freeze()  # what is shared stays shared: no collection writes to it
    ForkServer(parent, left).serve()


class ForkServer:
    """
    Forks on request, tells of every birth and death, ends with its parent.
    """

    def __init__(self, parent: socket.socket, left: ForkSafety) -> None:
        self._parent = parent
        self._leftovers = left
        self._workers = WorkerMarks()
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        self._waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker)

    def serve(self) -> None:
        """
        Work until the parent closes its end.
        """
        _send(self._parent, {"ready": os.getpid()})
        while True:
            watched = [self._parent.fileno(), self._woken]
            readable, _, _ = select.select(watched, [], [])
            if self._woken in readable:
                os.read(self._woken, 4096)
                self._reap()
            if self._parent.fileno() in readable and not self._answer():
                self._kill_orphans()
                return

    def _kill_orphans(self) -> None:
        """
        Kill the workers that do not end by themselves now that the parent is gone:
        one whose agent never lets go of the interpreter cannot.
        """
        from outlast.settings import settings

        deadline = time.monotonic() + settings().drain_grace_s + ORPHAN_KILL_S
        while self._reap() and time.monotonic() < deadline:
            if select.select([self._woken], [], [], ORPHAN_KILL_CHECK_S)[0]:
                os.read(self._woken, 4096)
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            self._workers.reap(pid)

    def _answer(self) -> bool:
        """
        Fork one worker; False when the parent is gone.
        """
        try:
            body, channels, _, _ = socket.recv_fds(self._parent, 4096, 1)
        except OSError:
            return False  # reset: it was killed with a message of ours unread
        if not body or not channels:
            return False
        unsafe = count_threads()
        if unsafe > 1:
            _send(self._parent, {"unsafe": f"{unsafe} threads in the zygote"})
        else:
            try:
                self._fork(ProcessKind(json.loads(body)["kind"]), channels[0])
            except OSError as error:
                _send(self._parent, {"unborn": f"{error}"})
        os.close(channels[0])
        return True

    def _fork(self, kind: ProcessKind, channel: int) -> None:
        mark = new_mark()
        pid = os.fork()
        if pid == 0:
            set_mark(mark)
            self._run_worker(kind, channel)
        self._workers.add(pid, mark)
        _send(self._parent, {"forked": pid, "mark": mark})

    def _run_worker(self, kind: ProcessKind, channel: int) -> None:
        """
        Be the worker: give back what is the zygote's, and never return.
        """
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (self._woken, self._waker):
            os.close(file)
        self._parent.close()
        self._leftovers.reseed()
        from outlast.fleet.worker_main import run

        run(kind, socket.socket(fileno=channel))

    def _reap(self) -> bool:
        """
        Tell of every death, once all that the worker had started is dead too; returns
        whether workers are left.
        """
        for pid, code in self._workers.reap_dead():
            _send(self._parent, {"died": pid, "code": code})
        return bool(self._workers)


def count_threads() -> int:
    """
    Count the threads of this process, those of native libraries too where that can
    be seen.
    """
    return (
        len(os.listdir(THREADS_FOLDER))
        if THREADS_FOLDER.exists()
        else threading.active_count()
    )


def _send(parent: socket.socket, message: dict[str, object]) -> None:
    # The parent may be gone, and nobody else is told.
    with contextlib.suppress(OSError):
        parent.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(ProcessKind(sys.argv[1]))
    os._exit(0)  # a module's threads may not end
