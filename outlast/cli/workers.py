"""
The live workers, as the server lists them: by role, host, load and last sign.
"""

import json
import time
from dataclasses import asdict, dataclass

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError

from outlast.contracts.errors import UnavailableError
from outlast.contracts.models import ALONE_QUEUE, MISSIONS_QUEUE, queue_of

PAGE = 1000
# Workers sign every 2 s; one that was silent for longer is not called live.
SILENT_S = 6.0


@dataclass(frozen=True)
class Row:
    """
    One worker on one queue.
    """

    role: str
    host: str
    pid: int
    in_hand: int
    free: int
    last_sign_s: float


async def show_workers(client: Client, as_json: bool) -> None:
    """
    Print the live workers.
    """
    rows = await live_workers(client)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(
        f"{'role':<20}{'host':<20}{'pid':>8}{'in hand':>9}{'free':>6}{'last sign':>11}"
    )
    for row in rows:
        load = f"{row.in_hand:>9}{row.free:>6}{row.last_sign_s:>9.1f} s"
        print(f"{row.role:<20}{row.host:<20}{row.pid:>8}{load}")
    if not rows:
        print("no live workers; start some with worker.py")


async def live_workers(client: Client) -> list[Row]:
    """
    List the workers that gave a sign lately.

    :raises UnavailableError: when the server has no worker lists.
    """
    request = ListWorkersRequest(namespace=client.namespace, page_size=PAGE)
    try:
        listed = await client.workflow_service.list_workers(request)
    except RPCError as error:
        raise UnavailableError(
            f"this server lists no workers: {error.message}"
        ) from None
    beats = [each.worker_heartbeat for each in listed.workers_info]
    rows = [_row(beat) for beat in beats if _is_live(beat)]
    return sorted(rows, key=lambda row: (row.role, row.host, row.pid))


def _is_live(beat: WorkerHeartbeat) -> bool:
    running = beat.status == WorkerStatus.WORKER_STATUS_RUNNING
    return running and _silence_s(beat) < SILENT_S


def _silence_s(beat: WorkerHeartbeat) -> float:
    return max(0.0, time.time() - beat.heartbeat_time.ToNanoseconds() / 1e9)


def _row(beat: WorkerHeartbeat) -> Row:
    slots = beat.activity_task_slots_info
    if beat.task_queue == MISSIONS_QUEUE:
        slots = beat.workflow_task_slots_info
    return Row(
        role=_role(beat.task_queue),
        host=beat.host_info.host_name,
        pid=int(beat.host_info.process_id or 0),
        in_hand=slots.current_used_slots,
        free=slots.current_available_slots,
        last_sign_s=round(_silence_s(beat), 1),
    )


def _role(queue: str) -> str:
    names = {MISSIONS_QUEUE: "(workflows)", ALONE_QUEUE: "(suspects)"}
    return names.get(queue, queue.removeprefix(queue_of("")))
