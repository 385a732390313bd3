"""
Whom a lookout looks at, and that what it cannot see is in nobody's way.
"""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode
from unit_fakes import Clock, mission

from outlast.contracts.orders import Sighting
from outlast.fleet.horizon import Horizon
from outlast.fleet.lookout import GLANCES, Lookout
from outlast.store.books import Books
from outlast.store.database import Store

RUNNING = WorkerStatus.WORKER_STATUS_RUNNING


class Server:
    """
    A server with missions of which some cannot be described.
    """

    identity = "me"
    namespace = "default"

    def __init__(self, unseen: set[str]) -> None:
        self.unseen = unseen
        self.seen: list[str] = []
        self.workflow_service = self

    async def list_workers(self, request: Any) -> Any:
        return SimpleNamespace(workers_info=[], next_page_token=b"")

    def get_workflow_handle(self, mission: str) -> Any:
        return SimpleNamespace(describe=lambda: self.describe(mission))

    async def describe(self, mission: str) -> Any:
        if mission in self.unseen:
            raise RPCError("internal", RPCStatusCode.INTERNAL, b"")
        self.seen.append(mission)
        return SimpleNamespace(raw_description=SimpleNamespace(pending_activities=[]))


def lookout(store: Store, server: Any) -> Lookout:
    clock = Clock()
    return Lookout(server, store, clock, Horizon(clock))


def open_mission(store: Store, name: str) -> None:
    books = Books(store)
    books.open(mission(id=name))
    books.accept(name)


async def look(watching: Lookout, times: int) -> None:
    for _ in range(times):
        try:
            await watching.visit()
        except RPCError:
            logging.info("blind")


async def test_a_mission_that_cannot_be_seen_starves_no_other(store: Store) -> None:
    """
    All the others have their turn, those of its own ten and those after them.
    """
    names = [f"m{at:02}" for at in range(2 * GLANCES + 5)]
    for each in names:
        open_mission(store, each)
    server = Server(unseen={names[0], names[13]})
    await look(lookout(store, server), 4)
    assert set(names) - server.unseen == set(server.seen)


async def test_a_lookout_says_that_it_could_not_see(store: Store) -> None:
    """
    After it has looked at all of them, so that the log has the cause.
    """
    open_mission(store, "hidden")
    with pytest.raises(RPCError):
        await lookout(store, Server(unseen={"hidden"})).visit()


async def test_a_mission_that_does_not_answer_ends_no_lookout(store: Store) -> None:
    """
    The client's own word for a limit that has passed is no RPCError.
    """

    async def mute(*_: Any) -> None:
        raise WorkflowUpdateRPCTimeoutOrCancelledError

    handle = SimpleNamespace(execute_update=mute)
    server = SimpleNamespace(get_workflow_handle=lambda _: handle)
    sighting = Sighting(stranded=["t:worker:1"], live=[])
    await lookout(store, server)._tell("m", sighting)
