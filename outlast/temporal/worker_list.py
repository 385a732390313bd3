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

PAGE = 1000
# One that was silent for longer than six signs is not called live.
SILENT_S = 6.0
# How long another host's worker is waited for to give a new sign, and looked at.
SIGN_WAIT_S = 3.0
LOOK_S = 0.2


async def live_signs(
    client: Client, query: str = "", within_s: float = SILENT_S
) -> list[WorkerHeartbeat]:
    """
    List the last sign of each worker that gave one lately.

    A sign has the time of its own host: on this host that is compared with ours, and
    another host's worker must give a new sign while we look.

    :param query: as ListWorkers takes it, for instance `TaskQueue = 'q'`.
    :raises UnavailableError: when the server gives no list of workers.
    """
    found = _running(await signs(client, query))
    others = {key: each for key, each in found.items() if not _is_ours(each)}
    ours = [each for each in found.values() if _is_ours(each)]
    live = [each for each in ours if silence_s(each) < within_s]
    return live + await _that_go_on(client, query, others)


async def _that_go_on(
    client: Client, query: str, before: dict[str, WorkerHeartbeat]
) -> list[WorkerHeartbeat]:
    """
    Look until each of the workers has given another sign than *before*, or had the
    time for it.
    """
    live: dict[str, WorkerHeartbeat] = {}
    until = time.monotonic() + SIGN_WAIT_S
    while len(live) < len(before) and time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        now = _running(await signs(client, query))
        for key in before.keys() & now.keys():
            if now[key].heartbeat_time != before[key].heartbeat_time:
                live[key] = now[key]
    return list(live.values())


async def signs(client: Client, query: str = "") -> list[WorkerHeartbeat]:
    """
    List the last sign of each worker, also of those that are gone.

    :raises UnavailableError: when the server gives no list of workers.
    """
    request = ListWorkersRequest(
        namespace=client.namespace, page_size=PAGE, query=query
    )
    found: list[WorkerHeartbeat] = []
    while True:
        try:
            listed = await client.workflow_service.list_workers(request)
        except RPCError as error:
            raise UnavailableError(_unread(error)) from None
        found += [each.worker_heartbeat for each in listed.workers_info]
        if not listed.next_page_token:
            return found
        request.next_page_token = listed.next_page_token


def silence_s(sign: WorkerHeartbeat) -> float:
    """
    Say how many seconds ago *sign*, which is live, was given; another host's has just
    been.
    """
    if not _is_ours(sign):
        return 0.0
    return max(0.0, time.time() - sign.heartbeat_time.ToNanoseconds() / 1e9)


def _is_ours(sign: WorkerHeartbeat) -> bool:
    return sign.host_info.host_name == socket.gethostname()


def _running(found: list[WorkerHeartbeat]) -> dict[str, WorkerHeartbeat]:
    running = WorkerStatus.WORKER_STATUS_RUNNING
    return {each.worker_instance_key: each for each in found if each.status == running}


def _unread(error: RPCError) -> str:
    """
    Say whether a server is too old for lists of workers, or did not answer this once.
    """
    if error.status is RPCStatusCode.UNIMPLEMENTED:
        return f"this server lists no workers: {error.message}"
    return f"the list of workers could not be read ({error.message})"
