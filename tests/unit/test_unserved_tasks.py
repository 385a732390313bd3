"""
Whom a lookout looks at, and that what it cannot see is in nobody's way.
"""

import asyncio
import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode
from unit_fakes import Clock, mission

from outlast.contracts.ids import AttemptId
from outlast.contracts.updates import UnservedTasks
from outlast.fleet.unserved_tasks import MISSIONS_PER_ROUND, UnservedTaskMonitor
from outlast.fleet.worker_liveness import WorkerLiveness
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store

BOUND_S = 20.0
RUNNING = SimpleNamespace(
    status=WorkflowExecutionStatus.RUNNING,
    raw_description=SimpleNamespace(pending_activities=[]),
)


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
        return RUNNING


def lookout(store: Store, server: Any) -> UnservedTaskMonitor:
    clock = Clock()
    return UnservedTaskMonitor(server, store, clock, WorkerLiveness(clock))


def record_mission_opened(store: Store, name: str) -> None:
    books = MissionRecords(store)
    books.open(mission(id=name))
    books.accept(name)


async def look(watching: UnservedTaskMonitor, times: int) -> None:
    for _ in range(times):
        try:
            await watching.refresh_workers()
            await watching.check_missions()
        except RPCError:
            logging.info("blind")


async def test_a_mission_that_cannot_be_seen_starves_no_other(store: Store) -> None:
    """
    All the others have their turn, those of its own ten and those after them.
    """
    names = [f"m{at:02}" for at in range(2 * MISSIONS_PER_ROUND + 5)]
    for each in names:
        record_mission_opened(store, each)
    server = Server(unseen={names[0], names[13]})
    await look(lookout(store, server), 4)
    assert set(names) - server.unseen == set(server.seen)


async def test_a_lookout_says_that_it_could_not_see(store: Store) -> None:
    """
    After it has looked at all of them, so that the log has the cause.
    """
    record_mission_opened(store, "hidden")
    watching = lookout(store, Server(unseen={"hidden"}))
    await watching.refresh_workers()
    with pytest.raises(RPCError):
        await watching.check_missions()


class Doubtful(WorkerLiveness):
    """
    A horizon as it is told.
    """

    is_conclusive, unknown_roles = True, []  # type: ignore[assignment]

    def is_unserved(self, role: str) -> bool:
        return self.is_conclusive


async def test_what_is_not_sure_is_not_told(store: Store) -> None:
    """
    A mission would take its role for back, and a moment later for lost again.
    """
    record_mission_opened(store, "waits")
    told: list[list[str]] = []

    async def describe() -> Any:
        waiting = PendingActivityInfo(
            activity_id=str(AttemptId("t", "worker", 1)),
            state=PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
        )
        raw = SimpleNamespace(pending_activities=[waiting])
        return SimpleNamespace(raw_description=raw, status=RUNNING.status)

    async def hear(_: str, sighting: UnservedTasks) -> None:
        told.append(sighting.activity_ids)

    handle = SimpleNamespace(describe=describe, execute_update=hear)
    server = Server(unseen=set())
    server.get_workflow_handle = lambda _: handle  # type: ignore[method-assign]
    clock = Clock()
    horizon = Doubtful(clock)
    watching = UnservedTaskMonitor(server, store, clock, horizon)  # type: ignore[arg-type]
    horizon.unknown_roles = ["reader"]  # type: ignore[misc]
    await look(watching, 1)
    assert told == []
    horizon.unknown_roles = []  # type: ignore[misc]
    await look(watching, 1)
    assert told == [["t~attempt~worker~1"]]
    horizon.is_conclusive = False  # type: ignore[misc]
    await look(watching, 1)
    assert len(told) == 1


async def test_neither_loop_ends_with_an_error_or_waits_for_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While a mission does not answer, the workers are looked at; and both end together.
    """
    monkeypatch.setattr("outlast.fleet.unserved_tasks.UNSERVED_CHECK_S", 0.001)
    record_mission_opened(store, "mute")
    looks = asyncio.Queue[int]()
    numbers = itertools.count(1)
    visited = asyncio.Event()

    class Mute(Server):
        async def list_workers(self, request: Any) -> Any:
            looks.put_nowait(number := next(numbers))
            if number == 2:
                raise RPCError("internal", RPCStatusCode.INTERNAL, b"")
            return await super().list_workers(request)

        async def describe(self, mission: str) -> Any:
            visited.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(lookout(store, Mute(unseen=set())).run())
    async with asyncio.timeout(BOUND_S):
        await visited.wait()
        while await looks.get() < 5:
            pass
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_mission_that_does_not_answer_ends_no_lookout(store: Store) -> None:
    """
    The client's own word for a limit that has passed is no RPCError.
    """

    async def mute(*_: Any) -> None:
        raise WorkflowUpdateRPCTimeoutOrCancelledError

    handle = SimpleNamespace(execute_update=mute)
    server = SimpleNamespace(get_workflow_handle=lambda _: handle)
    sighting = UnservedTasks(activity_ids=["t:worker:1"], served_roles=[])
    await lookout(store, server)._request_reroute("m", sighting)
