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
    StoreAwayError,
    StoreError,
)
from outlast.fleet.process_kinds import Ending
from outlast.fleet.worker_main import UnfitError, _work, ending_of
from outlast.fleet.workers import Hosted


def test_bad_input_is_not_tried_again() -> None:
    """
    The parent gives up at once.
    """
    assert ending_of(BadInputError("no such role")) is Ending.BAD_INPUT


@pytest.mark.parametrize("kind", [StoreError, StoreAwayError, NewerStateError])
def test_all_else_is_left_to_the_budget(kind: type[OutlastError]) -> None:
    """
    What may be over the next time must not end the fleet at the first.
    """
    assert ending_of(kind("away")) is Ending.FAILED


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

    def tell(self, sign: str) -> None:
        pass


async def test_a_worker_that_ends_by_itself_is_unfit(tmp_path: Path) -> None:
    """
    It may have said that it polls: only what it says tells the parent to charge it.
    """
    workers: Any = [Refused()]
    parent: Any = Listener()
    with pytest.raises(UnfitError, match="Namespace nowhere") as caught:
        await _work(Hosted(workers), parent, asyncio.Event(), 1.0, tmp_path)
    assert ending_of(caught.value) is Ending.UNFIT
