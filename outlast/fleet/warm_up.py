"""
What a process does before it is a worker: it imports everything, in the fork server
that workers are forked from, or, run as a program, in a spare that then waits to
become one.
"""

import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from outlast import secrets
from outlast.contracts.errors import OutlastError
from outlast.fleet.messages import (
    Exiting,
    Importing,
    StartWorker,
    Warm,
    decode,
    send,
)
from outlast.fleet.model_clients import warm_clients
from outlast.fleet.process_kinds import ExitReason, ProcessKind
from outlast.fleet.subprocesses import set_mark
from outlast.process.stop_signals import ignore_hangup
from outlast.telemetry import setup

WatchImport = Callable[[str], AbstractContextManager[None]]

WORKER_MODULES = (
    "outlast.fleet.worker_main",
    "temporalio.worker",
    "temporalio.contrib.pydantic",
)


def take_channel() -> socket.socket:
    """
    Take our end of the parent's channel, which we have as standard input. No program
    that is started from here may hold it open after our death.
    """
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return channel


def warm_up(
    kind: ProcessKind,
    parent: socket.socket,
    watch: WatchImport = lambda _: nullcontext(),
) -> bool:
    """
    Import what workers of *kind* need; False when the agents cannot be used, as the
    parent has been told.

    :param parent: hears of each module of agents before it is imported: the parent
        must tell why an import has taken the process with it.
    :param watch: is around each of these imports.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    ignore_hangup()
    try:
        _import_all(kind, parent, watch)
    except OutlastError as error:
        send(parent, Exiting(reason=ExitReason.BAD_INPUT, why=str(error)))
        return False
    return True


def _import_all(kind: ProcessKind, parent: socket.socket, watch: WatchImport) -> None:
    for module in WORKER_MODULES:
        import_module(module)
    from outlast.fleet.worker_output import begin_log

    begin_log()
    setup.preload_otlp()
    if kind is not ProcessKind.WORKFLOWS:
        _load_agents(parent, watch)
    send(parent, Importing(module=None))
    secrets.are_known()  # makes what masks them, once for all workers
    _compile_statements()


def _load_agents(parent: socket.socket, watch: WatchImport) -> None:
    from outlast.agents.agent_loading import for_roles, load_agents
    from outlast.settings import settings

    agents = {}
    for module in settings().worker_modules:
        send(parent, Importing(module=module))
        with watch(module):
            agents = load_agents([module])
    for_roles(agents, settings().role_names)
    warm_clients()


def _compile_statements() -> None:
    """
    Keep the records of one attempt, so that no worker's first attempt waits for
    statements to be compiled.
    """
    from outlast.contracts.attempts import AttemptInput, Checkpoint
    from outlast.contracts.results import ResultRef
    from outlast.contracts.tasks import Task
    from outlast.ledger.ledger import Ledger
    from outlast.store.database import Store

    task = Task(id="warm", role="warm")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.db")
        ledger = Ledger(store)
        assignment = AttemptInput(mission="warm", tenant="warm", task=task)
        claim = ledger.begin(assignment, "warm", 1, [Checkpoint(seq=1)]).claim
        ledger.save(claim, Checkpoint(seq=2, route="warm"), durable=False)
        claim = ledger.begin(assignment, "warm", 2, []).claim
        ledger.record(claim, ResultRef(digest="", attempt=1), None)
        store.close()


def be_spare(kind: ProcessKind, mark: int) -> NoReturn:
    """
    Warm up, wait until told which kind of worker to become, and be that.
    """
    set_mark(mark)
    channel = take_channel()
    if not warm_up(kind, channel):
        os._exit(0)
    send(channel, Warm())
    wanted = decode(_read_line(channel))
    assert isinstance(wanted, StartWorker)
    from outlast.fleet.worker_main import run

    run(wanted.kind, channel)


def _read_line(channel: socket.socket) -> bytes:
    """
    Read one line, and not a byte of what may follow; ends with the parent.
    """
    line = b""
    while not line.endswith(b"\n"):
        select.select([channel], [], [])
        byte = channel.recv(1)
        if not byte:
            sys.stderr.flush()
            os._exit(0)
        line += byte
    return line


if __name__ == "__main__":
    be_spare(ProcessKind(sys.argv[1]), int(sys.argv[2]))
