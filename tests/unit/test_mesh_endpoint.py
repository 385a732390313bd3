"""
What becomes of a run while what it hangs on is away.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from temporalio.client import Client

from outlast.attempt.permit import Permits
from outlast.contracts.errors import StoreAwayError
from outlast.contracts.models import Report
from outlast.mesh.effects import Run
from outlast.mesh.endpoint import Endpoint, Line
from outlast.store.database import Store

MISSION = {"goal": "rehearse", "tasks": [{"id": "r", "role": "rehearse"}]}
LIMIT_S = 30.0


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


class Unanswered(Line):
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
        StoreAwayError("its server does not answer"),
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
    endpoint = Endpoint(store, Permits(tmp_path / "runs"), line)
    ended: list[Report] = []
    endpoint.tell(lambda task, epoch, report: ended.append(report))

    endpoint.run(Run("job", 1, MISSION, {}))

    await asyncio.wait_for(line.asked.wait(), LIMIT_S)
    assert ended == []
    assert endpoint.load == 1
    endpoint.drop("job", 1)
    store.close()
