"""
What becomes of a run while what it hangs on is away.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import StoreUnavailableError
from outlast.contracts.ids import MeshRunId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report
from outlast.ledger.missions import MissionRecords
from outlast.ledger.run_permits import RunPermits
from outlast.mesh.core.effects import StartRun
from outlast.mesh.node.endpoint import TemporalEndpoint
from outlast.mesh.node.mission_runs import LazyClient, mission_of
from outlast.store.database import Store

MISSION = {"goal": "rehearse", "tasks": [{"id": "r", "role": "rehearse"}]}
LIMIT_S = 30.0
RUN = MeshRunId("job", 1)


class AwayOnce(Store):
    """
    A store that fails once by *error*.
    """

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path)
        self._errors = [error]

    async def run(self, act: Callable[..., Any], *args: Any) -> Any:
        if self._errors:
            raise self._errors.pop()
        return await super().run(act, *args)


class Unanswered(LazyClient):
    """
    A line to a server that has not come up yet.
    """

    def __init__(self) -> None:
        super().__init__("a")
        self.asked = asyncio.Event()

    async def client(self) -> Client:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("its server does not answer"),
        OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked")),
    ],
    ids=["away", "locked"],
)
async def test_a_run_outlives_its_store_being_away(
    tmp_path: Path, error: Exception
) -> None:
    """
    It is neither failed nor forgotten, but begun when the store answers.
    """
    store, line = AwayOnce(tmp_path / "outlast.db", error), Unanswered()
    endpoint = TemporalEndpoint(store, RunPermits(tmp_path / "runs"), line)
    ended: list[Report] = []
    endpoint.on_ended(lambda run, report: ended.append(report))

    endpoint.run(StartRun(RUN, MISSION))

    await asyncio.wait_for(line.asked.wait(), LIMIT_S)
    assert ended == []
    assert endpoint.load == 1
    endpoint.forget_run(RUN)
    store.close()


def test_each_epoch_is_the_same_logical_mission() -> None:
    """
    What one epoch has done to the world the next one does not repeat.
    """
    epochs = [
        mission_of(StartRun(MeshRunId("job", epoch), MISSION)) for epoch in (1, 2)
    ]
    assert [each.id for each in epochs] == ["job~run~1", "job~run~2"]
    assert {each.logical.path for each in epochs} == {"job"}


class Overloaded(LazyClient):
    """
    A line to a server that answers the first update too late, and then no longer has
    the mission. It is its own client and handle.
    """

    def __init__(self) -> None:
        super().__init__("a")
        self._answers: list[Exception] = [
            RPCError("no such mission", RPCStatusCode.NOT_FOUND, b""),
            WorkflowUpdateRPCTimeoutOrCancelledError(),
        ]

    async def client(self) -> Any:
        return self

    def get_workflow_handle(self, mission: str) -> Any:
        return self

    async def execute_update(self, update: str, args: list[str]) -> None:
        raise self._answers.pop()


class Noted(RunPermits):
    """
    Says when a run needs its word no more.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dropped = asyncio.Event()

    def remove(self, mission: str) -> None:
        super().remove(mission)
        self.dropped.set()


async def test_a_run_is_ended_however_late_its_server_answers(
    store: Store, tmp_path: Path
) -> None:
    """
    What is no longer ours must not stand on our server, held for good.
    """
    given = {**MISSION, "id": "job~run~1", "scope": {"path": "job"}}
    MissionRecords(store).open(Mission.model_validate(given))
    permits = Noted(tmp_path / "runs")
    permits.add("job~run~1")
    endpoint = TemporalEndpoint(store, permits, Overloaded())

    endpoint.cancel(RUN)

    await asyncio.wait_for(permits.dropped.wait(), LIMIT_S)
    assert permits.is_permitted("job~run~1")
    entry = MissionRecords(store).find("job~run~1")
    assert entry is not None
    assert entry.finished_at is not None, "it counts as open for good"


async def test_what_nobody_remembers_is_ended_at_the_start(
    store: Store, tmp_path: Path
) -> None:
    """
    A cancellation that was under way at the death of the process before, for one.
    """
    permits = Noted(tmp_path / "runs")
    for mission in ("kept~run~2", "kept~run~1"):
        permits.add(mission)
    (tmp_path / "runs" / "no-run").touch()
    endpoint = TemporalEndpoint(store, permits, Overloaded())

    endpoint.cancel_others({MeshRunId("kept", 2)})

    await asyncio.wait_for(permits.dropped.wait(), LIMIT_S)
    assert permits.all == ["kept~run~2", "no-run"]
