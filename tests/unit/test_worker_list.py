"""
Which workers are live, where hosts' clocks are apart.
"""

import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat

from outlast.temporal.worker_list import WORKER_SILENT_S, heartbeat_age_s, workers_alive

HERE = socket.gethostname()
APART_S = [0.0, 0.05, 3_600.0, -3_600.0]


class Listing:
    """
    A server that lists workers, each as it says at that time.
    """

    namespace = "default"

    def __init__(self, *workers: Callable[[], WorkerHeartbeat]) -> None:
        self.workers = workers
        self.workflow_service = self

    async def list_workers(self, request: Any) -> Any:
        found = [SimpleNamespace(worker_heartbeat=each()) for each in self.workers]
        return SimpleNamespace(workers_info=found, next_page_token=b"")


def worker(
    key: str, host: str, apart_s: float = 0.0, stopped_at: float | None = None
) -> Callable[[], WorkerHeartbeat]:
    """
    Make a worker that gives signs by a clock that is *apart_s* from ours, until it
    *stopped*.
    """

    def sign() -> WorkerHeartbeat:
        made = WorkerHeartbeat(worker_instance_key=key)
        made.status = WorkerStatus.WORKER_STATUS_RUNNING
        made.host_info.host_name = host
        at = time.time() if stopped_at is None else stopped_at
        made.heartbeat_time.FromNanoseconds(int((at + apart_s) * 1e9))
        return made

    return sign


async def live(*workers: Callable[[], WorkerHeartbeat]) -> set[str]:
    found = await workers_alive(Listing(*workers))  # type: ignore[arg-type]
    assert all(0 <= heartbeat_age_s(each) <= WORKER_SILENT_S for each in found)
    return {each.worker_instance_key for each in found}


@pytest.mark.parametrize("apart_s", APART_S)
async def test_a_live_worker_of_another_host_is_listed(apart_s: float) -> None:
    """
    However far that host's clock is from ours.
    """
    assert await live(worker("there", "another", apart_s)) == {"there"}


async def test_a_dead_worker_of_another_host_is_not_listed() -> None:
    """
    Though its last sign looks as if it had just come.
    """
    dead = [
        worker(f"dead{apart_s}", "another", apart_s, stopped_at=time.time())
        for apart_s in APART_S
    ]
    assert await live(*dead, worker("there", "another")) == {"there"}


async def test_this_hosts_workers_are_told_without_a_wait() -> None:
    """
    By the one clock that they and we have.
    """
    began = time.monotonic()
    dead = worker("dead", HERE, stopped_at=time.time() - WORKER_SILENT_S - 1)
    assert await live(worker("here", HERE), dead) == {"here"}
    assert time.monotonic() - began < 0.1
