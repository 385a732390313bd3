"""
The signs of life that workers give the server, every second each.
"""

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


async def live_signs(
    client: Client, query: str = "", within_s: float = SILENT_S
) -> list[WorkerHeartbeat]:
    """
    List the last sign of each worker that gave one lately.

    :param query: as ListWorkers takes it, for instance `TaskQueue = 'q'`.
    :param within_s: by its host's clock and by ours.
    :raises UnavailableError: when the server gives no list of workers.
    """
    return [each for each in await signs(client, query) if _is_live(each, within_s)]


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
    Say how many seconds ago *sign* was given.
    """
    return max(0.0, time.time() - sign.heartbeat_time.ToNanoseconds() / 1e9)


def _is_live(sign: WorkerHeartbeat, within_s: float) -> bool:
    running = sign.status == WorkerStatus.WORKER_STATUS_RUNNING
    return running and silence_s(sign) < within_s


def _unread(error: RPCError) -> str:
    """
    Say whether a server is too old for lists of workers, or did not answer this once.
    """
    if error.status is RPCStatusCode.UNIMPLEMENTED:
        return f"this server lists no workers: {error.message}"
    return f"the list of workers could not be read ({error.message})"
