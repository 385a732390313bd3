"""
The zygote, spoken to as the fleet's parent speaks to it.
"""

import _thread
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outlast.fleet.fork_server import count_threads
from outlast.fleet.messages import (
    Died,
    Forked,
    Importing,
    Message,
    StartWorker,
    StateChanged,
    Warm,
    decode,
    encode,
)
from outlast.fleet.process_kinds import ExitReason, ProcessKind, ProcessState

ROOT = Path(__file__).parents[2]
BOUND_S = 20.0

QUIET = """
from outlast import Context, agent

@agent("quiet")
async def quiet(given: dict, ctx: Context) -> None:
    pass
"""
THREADED = f"""
{QUIET}
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@dataclass
class Spoken:
    """
    A zygote and the parent's end of the channel to it.
    """

    process: subprocess.Popen[bytes]
    ours: socket.socket
    lines: Any

    def hears(self) -> Any:
        """
        Return its next message but those of progress; None when its end is closed.
        """
        while line := self.lines.readline():
            message = decode(line)
            if not isinstance(message, Importing):
                return message
        return None

    def fork(self, kind: ProcessKind = ProcessKind.AGENTS) -> "Worker":
        """
        Ask for a worker; what it tells goes to a channel of its own.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(BOUND_S)
        request = encode(StartWorker(kind=kind))
        socket.send_fds(self.ours, [request], [theirs.fileno()])
        theirs.close()
        return Worker(self.hears(), ours)

    def close(self) -> None:
        self.lines.close()
        self.ours.close()

    def end(self) -> None:
        """
        Close the channel and see it end; else make it.
        """
        self.close()
        try:
            self.process.wait(timeout=BOUND_S)
        finally:
            self.process.kill()
            self.process.wait()


@dataclass
class Worker:
    """
    The zygote's answer to a request, and the channel of the worker it speaks of.
    """

    answer: Any
    channel: socket.socket

    @property
    def pid(self) -> int:
        assert isinstance(self.answer, Forked)
        return self.answer.pid

    def signs(self) -> list[Message]:
        """
        Hear it out, until its channel closes.
        """
        said = b""
        while more := self.channel.recv(4096):
            said += more
        return [decode(line) for line in said.splitlines()]


def started(
    home: Path, agents: str = "", kind: ProcessKind = ProcessKind.AGENTS
) -> Spoken:
    """
    Start a zygote whose workers wait in vain for a Temporal.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(BOUND_S)
    environment = {
        **os.environ,
        "OUTLAST_HOME": str(home),
        "OUTLAST_AGENTS": agents,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
    }
    command = [sys.executable, "-m", "outlast.fleet.fork_server", kind]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=theirs, stderr=subprocess.DEVNULL
    )
    theirs.close()
    return Spoken(process, ours, ours.makefile("rb"))


Start = Callable[..., Spoken]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """
    Starts zygotes that end with the test.
    """
    made: list[Spoken] = []

    def begin(agents: str = "", kind: ProcessKind = ProcessKind.AGENTS) -> Spoken:
        made.append(started(tmp_path / "home", agents, kind))
        return made[-1]

    yield begin
    for each in made:
        each.end()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    """
    One zygote, ready, for all tests that leave it as it was.
    """
    made = started(tmp_path_factory.mktemp("home"))
    assert made.hears() == Warm()
    yield made
    made.end()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """
    Writes a module of agents.
    """

    def write(source: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(source)
        return str(path)

    return write


def test_threads_that_python_does_not_know_are_counted() -> None:
    """
    A native library's thread makes a fork as unsafe as one of ours.
    """
    before = count_threads()
    over, ended = _thread.allocate_lock(), _thread.allocate_lock()
    over.acquire()
    ended.acquire()

    def wait() -> None:
        over.acquire()
        ended.release()

    _thread.start_new_thread(wait, ())
    assert count_threads() == before + 1
    over.release()
    ended.acquire()


def test_a_zygote_says_when_it_is_ready(start: Start) -> None:
    """
    Nobody asks it for a worker before.
    """
    zygote = start(kind=ProcessKind.WORKFLOWS)
    assert zygote.hears() == Warm()


def test_a_worker_is_forked_on_request(zygote: Spoken) -> None:
    """
    It is the zygote's child and holds the channel that was passed; when the parent
    closes that, the worker drains, and its end is told with exit code 0.
    """
    worker = zygote.fork()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert f"PPid:\t{zygote.process.pid}\n" in status

    worker.channel.shutdown(socket.SHUT_WR)

    assert worker.signs() == [StateChanged(state=ProcessState.DRAINED)]
    assert zygote.hears() == Died(pid=worker.pid, code=0)


def test_each_death_is_told_with_its_signal(zygote: Spoken) -> None:
    """
    A cause is only as true as the exit code: minus the signal, for each worker.
    """
    workers = [
        zygote.fork(kind)
        for kind in (ProcessKind.AGENTS, ProcessKind.QUARANTINE, ProcessKind.AGENTS)
    ]
    numbers = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]
    for worker, number in zip(workers, numbers, strict=True):
        os.kill(worker.pid, number)
        assert worker.signs() == []
        assert zygote.hears() == Died(pid=worker.pid, code=-number)


def test_deaths_at_once_are_all_told(zygote: Spoken) -> None:
    """
    Signals of children that die together become one: none of them is overlooked.
    """
    workers = [zygote.fork() for _ in range(5)]  # whose channels stay open
    pids = {worker.pid for worker in workers}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert {zygote.hears().pid for _ in pids} == pids


def test_a_zygote_ends_with_its_parent(start: Start) -> None:
    """
    When the parent's end closes there is nobody to fork for.
    """
    zygote = start()
    zygote.hears()
    zygote.close()
    assert zygote.process.wait(timeout=BOUND_S) == 0


def test_a_zygote_ends_quietly_with_a_parent_that_was_killed(start: Start) -> None:
    """
    A parent that has died with a message unread resets the channel; that is its end
    like any other.
    """
    zygote = start()
    zygote.ours.recv(1)  # it is up, and the rest of what it said stays unread
    zygote.close()
    assert zygote.process.wait(timeout=BOUND_S) == 0


def test_a_zygotes_death_is_seen_while_its_workers_live(start: Start) -> None:
    """
    No worker keeps its zygote's channel open: else the parent would wait for the
    answer of a dead one.
    """
    zygote = start()
    zygote.hears()
    worker = zygote.fork()
    zygote.process.kill()
    zygote.ours.settimeout(2.0)
    try:
        assert zygote.hears() is None
    finally:
        worker.channel.close()


def test_what_cannot_be_shared_is_not_forked(
    start: Start, module: Callable[[str], str]
) -> None:
    """
    A lock held by a thread that a fork does not copy is never released: it says which
    module it is, and ends without waiting for that thread.
    """
    path = module(THREADED.replace(", daemon=True", ""))
    zygote = start(path)
    told = zygote.hears().why
    assert told.startswith(f"{path} started the thread 'Thread-1 (wait)' at import; ")
    assert zygote.process.wait(timeout=BOUND_S) == 0


def test_a_module_without_threads_is_safe(
    start: Start, module: Callable[[str], str]
) -> None:
    """
    Own agents are forked like the shipped ones.
    """
    zygote = start(module(QUIET))
    zygote.hears()
    worker = zygote.fork()
    assert worker.pid > 0
    worker.channel.close()
    assert zygote.hears() == Died(pid=worker.pid, code=0)


def test_telemetry_leaves_forking_safe(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The zygote has what its workers need to send, and none of the threads that do.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    zygote = start()
    zygote.hears()
    worker = zygote.fork()
    assert worker.pid > 0
    worker.channel.close()
    assert zygote.hears() == Died(pid=worker.pid, code=0)


@pytest.mark.parametrize("source", [None, "1 / 0"], ids=["missing", "raising"])
def test_a_module_that_cannot_be_imported_is_unusable(
    start: Start, module: Callable[[str], str], source: str | None
) -> None:
    """
    Trying again would change nothing: it says which module it is, and ends.
    """
    name = "nowhere.py" if source is None else module(source)
    zygote = start(name)
    told = zygote.hears()
    assert told.reason is ExitReason.BAD_INPUT
    assert Path(name).name in told.why
    assert "\n" not in told.why
    assert zygote.hears() is None
    assert zygote.process.wait(timeout=BOUND_S) == 0
