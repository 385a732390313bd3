"""
Looking for wedged missions where the server answers nothing, as on a full disk.
"""

import asyncio
from typing import Any

import pytest

from outlast.cli import stuck_workflows
from outlast.contracts.errors import UnavailableError


class Silent:
    """
    A server, as client and as handle at once, that never answers.
    """

    def get_workflow_handle(self, mission: str) -> "Silent":
        self.asked.append(mission)
        return self

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def describe(self) -> None:
        await asyncio.Event().wait()


async def test_a_server_that_answers_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    `status` says within seconds what is waited for: nothing is known of a wedge.
    """
    monkeypatch.setattr(stuck_workflows, "DESCRIBE_LIMIT_S", 0.01)
    server: Any = Silent()
    async with asyncio.timeout(5.0):
        assert await stuck_workflows.workflow_task_failure(server, "m") is None


async def test_of_many_missions_a_silent_server_is_asked_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    `doctor` does not wait once for each, nor say that none is wedged.
    """
    monkeypatch.setattr(stuck_workflows, "DESCRIBE_LIMIT_S", 0.01)
    server: Any = Silent()
    with pytest.raises(UnavailableError, match="not looked at"):
        await stuck_workflows.stuck_missions(server, ["a", "b", "c"])
    assert server.asked == ["a"]
