"""
Why a worker process ends by itself, as it tells its parent.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.errors import (
    BadInputError,
    NewerStateError,
    OutlastError,
    StoreError,
    StoreUnavailableError,
)
from outlast.fleet.messages import Message
from outlast.fleet.parent_channel import WorkerStoppedError, exit_reason_of
from outlast.fleet.polling import poll_until_stopped
from outlast.fleet.process_kinds import ExitReason
from outlast.fleet.workers import WorkerSet


def test_bad_input_is_not_tried_again() -> None:
    """
    The parent gives up at once.
    """
    assert exit_reason_of(BadInputError("no such role")) is ExitReason.BAD_INPUT


@pytest.mark.parametrize("kind", [StoreError, StoreUnavailableError, NewerStateError])
def test_all_else_is_left_to_the_budget(kind: type[OutlastError]) -> None:
    """
    What may be over the next time must not end the fleet at the first.
    """
    assert exit_reason_of(kind("away")) is ExitReason.FAILED


class Refused:
    """
    A worker whose namespace the server does not know.
    """

    task_queue = "nowhere"

    async def run(self) -> None:
        raise RuntimeError("Namespace nowhere is not found")

    async def shutdown(self) -> None:
        pass


class Listener:
    """
    A parent that hears every sign.
    """

    def send(self, message: Message) -> None:
        pass


async def test_a_worker_that_ends_by_itself_is_unfit(tmp_path: Path) -> None:
    """
    It may have said that it polls: only what it says tells the parent to charge it.
    """
    workers: Any = [Refused()]
    parent: Any = Listener()
    with pytest.raises(WorkerStoppedError, match="Namespace nowhere") as caught:
        await poll_until_stopped(
            WorkerSet(workers), parent, asyncio.Event(), 1.0, tmp_path
        )
    assert exit_reason_of(caught.value) is ExitReason.WORKER_STOPPED
