"""
A process that has imported everything and does nothing: workers are forked from it.

Forking a worker takes milliseconds where a new interpreter needs two seconds of
imports. It is safe only while there is one thread, no Temporal client, and nothing that
the agents' modules have opened: what an import leaves is looked at after it, threads
before every fork; where that fails, the parent starts workers by exec.
"""

import gc
import os
import select
import signal
import socket
import sys
import threading
import time

from outlast.fleet.fork_safety import THREADS_FOLDER, ForkSafety
from outlast.fleet.messages import (
    Died,
    Forked,
    ForkFailed,
    ForkUnsafe,
    StartWorker,
    Warm,
    decode,
    send,
)
from outlast.fleet.process_kinds import ProcessKind
from outlast.fleet.subprocesses import WorkerMarks, become_subreaper, new_mark, set_mark
from outlast.fleet.warm_up import take_channel, warm_up

# Beyond the drain time, after which a worker without a parent is killed.
ORPHAN_KILL_S = 4.0
ORPHAN_KILL_CHECK_S = 0.2


def main(kind: ProcessKind) -> None:
    """
    Import what workers of *kind* need, then fork one for each request of the parent.
    """
    parent, safety = take_channel(), ForkSafety()
    if not warm_up(kind, parent, safety.watching):
        return
    if safety.found:
        send(parent, ForkUnsafe(why="; ".join(safety.found)))
        return
    become_subreaper()
    gc.freeze()  # what is shared stays shared: no collection writes to it
    ForkServer(parent, safety).serve()


class ForkServer:
    """
    Forks on request, tells of every fork and death, ends with its parent.
    """

    def __init__(self, parent: socket.socket, safety: ForkSafety) -> None:
        self._parent = parent
        self._safety = safety
        self._workers = WorkerMarks()
        self._child_ended, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker)

    def serve(self) -> None:
        """
        Work until the parent closes its end.
        """
        send(self._parent, Warm())
        while True:
            watched = [self._parent.fileno(), self._child_ended]
            readable, _, _ = select.select(watched, [], [])
            if self._child_ended in readable:
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
        while self._workers and time.monotonic() < deadline:
            if select.select([self._child_ended], [], [], ORPHAN_KILL_CHECK_S)[0]:
                self._reap()
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
        request = decode(body)
        assert isinstance(request, StartWorker)
        if (threads := count_threads()) > 1:
            send(self._parent, ForkUnsafe(why=f"{threads} threads in the fork server"))
        else:
            try:
                self._fork(request.kind, channels[0])
            except OSError as error:
                send(self._parent, ForkFailed(why=str(error)))
        os.close(channels[0])
        return True

    def _fork(self, kind: ProcessKind, channel: int) -> None:
        mark = new_mark()
        pid = os.fork()
        if pid == 0:
            set_mark(mark)
            self._run_worker(kind, channel)
        self._workers.add(pid, mark)
        send(self._parent, Forked(pid=pid, mark=mark))

    def _run_worker(self, kind: ProcessKind, channel: int) -> None:
        """
        Be the worker: give back what is the fork server's, and never return.
        """
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (self._child_ended, self._waker):
            os.close(file)
        self._parent.close()
        self._safety.random.reseed()
        from outlast.fleet.worker_main import run

        run(kind, socket.socket(fileno=channel))

    def _reap(self) -> None:
        """
        Tell of every death, once all that the worker had started is dead too.
        """
        os.read(self._child_ended, 4096)
        for pid, code in self._workers.reap_dead():
            send(self._parent, Died(pid=pid, code=code))


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


if __name__ == "__main__":
    main(ProcessKind(sys.argv[1]))
    os._exit(0)  # a module's threads may not end
