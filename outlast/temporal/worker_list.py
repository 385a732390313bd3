"""
The signs of life that workers give the server, every second each.
"""

import asyncio
import socket
import time

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import UnavailableError

WORKERS_PAGE = 1000
# One that was silent for longer than six signs is not called live.
WORKER_SILENT_S = 6.0
# How long another host's worker is waited for to give a new sign, and looked at.
LIVE_CHECK_LIMIT_S = 3.0
LIVE_CHECK_S = 0.2


async def workers_alive(
    client: Client, query: str = "", within_s: float = WORKER_SILENT_S
) -> list[WorkerHeartbeat]:
    """
    List the last sign of each worker that gave one lately.

    A sign has the time of its own host: on this host that is compared with ours, and
    another host's worker must give a new sign while we look.

    :param query: as ListWorkers takes it, for instance `TaskQueue = 'q'`.
    :raises UnavailableError: when the server gives no list of workers.
    """
    found = _running(await list_workers(client, query))
    others = {key: each for key, each in found.items() if not _is_outlast_worker(each)}
    ours = [each for each in found.values() if _is_outlast_worker(each)]
    live = [each for each in ours if heartbeat_age_s(each) < within_s]
    return live + await _still_alive(client, query, others)


async def _still_alive(
    client: Client, query: str, before: dict[str, WorkerHeartbeat]
) -> list[WorkerHeartbeat]:
    """
    Look until each of the workers has given another sign than *before*, or had the
    time for it.
    """
    live: dict[str, WorkerHeartbeat] = {}
    until = time.monotonic() + LIVE_CHECK_LIMIT_S
    while len(live) < len(before) and time.monotonic() < until:
        await asyncio.sleep(LIVE_CHECK_S)
        now = _running(await list_workers(client, query))
        for key in before.keys() & now.keys():
            if now[key].heartbeat_time != before[key].heartbeat_time:
                live[key] = now[key]
    return list(live.values())


async def list_workers(client: Client, query: str = "") -> list[WorkerHeartbeat]:
    """
    List the last sign of each worker, also of those that are gone.

    :raises UnavailableError: when the server gives no list of workers.
    """
    request = ListWorkersRequest(
        namespace=client.namespace, page_size=WORKERS_PAGE, query=query
    )
    found: list[WorkerHeartbeat] = []
    while True:
        try:
            listed = await client.workflow_service.list_workers(request)
        except RPCError as error:
            raise UnavailableError(_list_error(error)) from None
        found += [each.worker_heartbeat for each in listed.workers_info]
        if not listed.next_page_token:
            return found
        request.next_page_token = listed.next_page_token


def heartbeat_age_s(heartbeat: WorkerHeartbeat) -> float:
    """
    Say how many seconds ago *heartbeat*, which is live, was given; another host's has
    just been.
    """
    if not _is_outlast_worker(heartbeat):
        return 0.0
    return max(0.0, time.time() - heartbeat.heartbeat_time.ToNanoseconds() / 1e9)


def _is_outlast_worker(heartbeat: WorkerHeartbeat) -> bool:
    return heartbeat.host_info.host_name == socket.gethostname()


def _running(found: list[WorkerHeartbeat]) -> dict[str, WorkerHeartbeat]:
    running = WorkerStatus.WORKER_STATUS_RUNNING
    return {each.worker_instance_key: each for each in found if each.status == running}


def _list_error(error: RPCError) -> str:
    """
    Say whether a server is too old for lists of workers, or did not answer this once.
    """
    if error.status is RPCStatusCode.UNIMPLEMENTED:
        return f"this server lists no workers: {error.message}"
    return f"the list of workers could not be read ({error.message})"
