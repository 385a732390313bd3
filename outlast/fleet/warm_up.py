"""
What a process imports and does before it is a worker: in the zygote that workers are
forked from, or in a spare that waits to become one.
"""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from outlast import secrets
from outlast.fleet.model_clients import warm_clients
from outlast.fleet.process_kinds import PRELOADED, ProcessKind
from outlast.telemetry import setup

Send = Callable[[dict[str, Any]], None]
WatchImport = Callable[[str], AbstractContextManager[None]]


def no_watch(_: str) -> AbstractContextManager[None]:
    """
    Import without a look at what is left.
    """
    return nullcontext()


def warm_up(kind: ProcessKind, send: Send, watch: WatchImport = no_watch) -> None:
    """
    Import what workers of *kind* need.

    :param send: hears of each module of agents before it is imported: an import that
        takes the process with it is told by its parent.
    :param watch: is around each of these imports.
    :raises BadInputError: when the agents cannot be used.
    """
    for module in PRELOADED[kind]:
        import_module(module)
    from outlast.fleet.worker_main import begin_log

    begin_log()
    setup.preload_otlp()
    if kind is not ProcessKind.WORKFLOWS:
        _load_agents(send, watch)
    send({"importing": None})
    secrets.are_known()  # makes what masks them, once for all workers
    _warm_up()


def _load_agents(send: Send, watch: WatchImport) -> None:
    from outlast.agents.agent_loading import for_roles, load_agents
    from outlast.settings import settings

    agents = {}
    for module in settings().worker_modules:
        send({"importing": module})
        with watch(module):
            agents = load_agents([module])
    for_roles(agents, settings().role_names)
    warm_clients()


def _warm_up() -> None:
    """
    Go through an attempt's books once, so that no worker's first attempt waits for
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
