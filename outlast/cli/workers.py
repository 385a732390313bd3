"""
The live workers, as the server lists them: role, queue, host, load and last heartbeat;
and attempts that have leaked: they are over, but their code still runs in a process of
this home.
"""

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.client import Client

from outlast.cli.session import Session
from outlast.contracts.ids import MISSIONS_QUEUE, QueueId, parse
from outlast.dev.locks import ensure_home
from outlast.fleet.process_kinds import recorder_path
from outlast.fleet.recorder_reader import LeakedCall, leaked_calls
from outlast.process.called import tell
from outlast.settings import settings
from outlast.temporal.deployments import build_of
from outlast.temporal.worker_list import heartbeat_age_s, workers_alive

# What is taken from a role's queues, by their kind.
QUEUE_KINDS = {"role": "tasks", "leases": "leases", "quarantine": "suspects"}


@dataclass(frozen=True)
class WorkerRow:
    """
    One worker on one queue.
    """

    role: str
    takes: str
    host: str
    pid: int
    build: str
    in_flight: int
    free: int
    last_sign_s: float
    # Of its role in its process, where that is of this home.
    leaked: tuple[LeakedCall, ...] = ()


async def show_workers(session: Session, as_json: bool) -> None:
    rows = await list_rows(await session.client())
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    if not rows:
        tell("no live workers; start some with outlast-worker")
        return
    print(
        f"{'host':<20}{'pid':>8}{'in hand':>9}{'last sign':>11}  {'build':<12}  roles"
    )
    for line in process_lines(rows):
        print(line)


def process_lines(rows: list[WorkerRow]) -> list[str]:
    processes: dict[tuple[str, int], list[WorkerRow]] = {}
    for row in rows:
        processes.setdefault((row.host, row.pid), []).append(row)
    return [
        line
        for _, each in sorted(processes.items())
        for line in (_process_line(each), *_leaked_lines(each))
    ]


def _leaked_lines(rows: list[WorkerRow]) -> list[str]:
    found = dict.fromkeys(each for row in rows for each in row.leaked)
    return [
        f"{'leaked':>28}  {each.mission}/{each.task}, attempt {each.attempt} by "
        f"{each.role}: it is over, its code still runs"
        for each in found
    ]


def _process_line(rows: list[WorkerRow]) -> str:
    first = rows[0]
    in_hand = sum(row.in_flight for row in rows)
    last_sign_s = min(row.last_sign_s for row in rows)
    roles = ", ".join(dict.fromkeys(row.role for row in rows))
    load = f"{in_hand:>9}{last_sign_s:>9.1f} s"
    return f"{first.host:<20}{first.pid:>8}{load}  {first.build or '-':<12}  {roles}"


async def list_rows(client: Client) -> list[WorkerRow]:
    """
    List the workers that gave a sign lately.

    :raises UnavailableError: when the server has no worker lists.
    """
    home = ensure_home(settings())
    rows = [_row(sign, home) for sign in await workers_alive(client)]
    return sorted(rows, key=lambda row: (row.role, row.takes, row.host, row.pid))


def _row(heartbeat: WorkerHeartbeat, home: Path) -> WorkerRow:
    slots = heartbeat.activity_task_slots_info
    if heartbeat.task_queue == MISSIONS_QUEUE:
        slots = heartbeat.workflow_task_slots_info
    role, takes = _queue_kind(heartbeat.task_queue)
    host, pid = heartbeat.host_info.host_name, int(heartbeat.host_info.process_id or 0)
    ours = (
        leaked_calls(recorder_path(home, pid)) if host == socket.gethostname() else []
    )
    return WorkerRow(
        role=role,
        takes=takes,
        host=host,
        pid=pid,
        build=build_of(heartbeat),
        in_flight=slots.current_used_slots,
        free=slots.current_available_slots,
        last_sign_s=round(heartbeat_age_s(heartbeat), 1),
        leaked=tuple(each for each in ours if each.role == role),
    )


def _queue_kind(queue: str) -> tuple[str, str]:
    if queue == MISSIONS_QUEUE:
        return "(workflows)", "missions"
    found = parse(QueueId, queue)
    return (found.role, QUEUE_KINDS[found.kind]) if found else (queue, "?")
