"""
What can be seen of a mission now: its progress, what its attempts say, and why a task
has no attempt at work.

A task without one backs off after a failure, or waits for a worker. Only the server
knows which: it keeps an attempt's last failure and when the next attempt begins.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.attempts import Heartbeat
from outlast.contracts.errors import UnavailableError
from outlast.contracts.ids import AttemptId, parse
from outlast.contracts.progress import MissionProgress, RunningTask
from outlast.temporal.updates import UNKNOWN_TO_SERVER

SNAPSHOT_LIMIT_S = 2.0

NO_WORKERS = "no workflow process answers; start workers with outlast-worker"
NO_SERVER = (
    "the Temporal server does not answer, so nothing newer is known; the mission goes "
    "on when it does: see `outlast doctor`"
)

PAUSED_STATES = (
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)


@dataclass(frozen=True)
class UnstartedTask:
    """
    A task whose next attempt is not at work.

    :param attempt: the number of that attempt.
    :param backs_off: it will be tried at its time; else it waits for a worker.
    :param text: what there is to say of that.
    """

    attempt: int
    backs_off: bool
    text: str


@dataclass(frozen=True)
class MissionSnapshot:
    """
    What can be seen now: the progress, what attempts say, and the tasks without an
    attempt at work.
    """

    progress: MissionProgress
    status_messages: dict[str, str] = field(default_factory=dict)
    unstarted: dict[str, UnstartedTask] = field(default_factory=dict)

    def request(self, task: str) -> ApprovalRequest | None:
        return next(
            (each for each in self.progress.approval_requests if each.id == task), None
        )


@dataclass
class PendingTasks:
    """
    How long attempts have been seen to wait: by our own clock, since the server's may
    be another.
    """

    clock: Callable[[], float] = time.monotonic
    _since: dict[tuple[str, int], float] = field(default_factory=dict)

    def waited_s(self, pending: PendingActivityInfo) -> float:
        now, which = self.clock(), (pending.activity_id, pending.attempt)
        return now - self._since.setdefault(which, now)


async def snapshot(
    handle: WorkflowHandle[Any, Any], watched: PendingTasks | None = None
) -> MissionSnapshot | None:
    """
    Look at the mission once; None when nobody answers in time.

    :param watched: what was seen to wait at earlier looks.
    """
    watched = watched or PendingTasks()
    try:
        async with asyncio.timeout(SNAPSHOT_LIMIT_S):
            progress = await handle.query("progress", result_type=MissionProgress)
            described = await handle.describe()
    except (RPCError, WorkflowQueryFailedError, TimeoutError):
        return None
    said: dict[str, str] = {}
    unstarted: dict[str, UnstartedTask] = {}
    for pending in described.raw_description.pending_activities:
        attempt = parse(AttemptId, pending.activity_id)
        task = attempt.task if attempt else pending.activity_id
        if found := await unstarted_tasks(pending, watched.waited_s(pending)):
            unstarted[task] = found
        elif words := await _status_message(pending):
            said[task] = words
    return MissionSnapshot(progress, said, unstarted)


async def mission_progress(client: Client, mission: str) -> MissionProgress:
    """
    Ask a mission under way how far it is.

    :raises UnavailableError: when no workflow process answers, or the server does not
        know it.
    """
    handle = client.get_workflow_handle(mission)
    view = await snapshot(handle)
    if view is None:
        raise UnavailableError(f"{mission}: {await explain_no_answer(handle)}")
    return view.progress


async def explain_no_answer(handle: WorkflowHandle[Any, Any]) -> str:
    """
    Say why a look at the mission has shown nothing, and what to do.
    """
    try:
        async with asyncio.timeout(SNAPSHOT_LIMIT_S):
            await handle.describe()
    except RPCError as error:
        return (
            UNKNOWN_TO_SERVER if error.status is RPCStatusCode.NOT_FOUND else NO_SERVER
        )
    except TimeoutError:
        return NO_SERVER
    return NO_WORKERS


async def _status_message(pending: PendingActivityInfo) -> str:
    if not pending.HasField("heartbeat_details"):
        return ""
    details = await pydantic_data_converter.decode_wrapper(pending.heartbeat_details)
    try:
        return Heartbeat.model_validate(details[0]).status_message
    except (ValidationError, IndexError):
        return ""


def task_line(running: RunningTask, view: MissionSnapshot) -> tuple[str, str]:
    if running.waiting_for:
        return "parked", running.waiting_for
    if waits := view.unstarted.get(running.id):
        return "retries" if waits.backs_off else "waits", waits.text
    return "running", view.status_messages.get(running.id, "")


async def unstarted_tasks(
    pending: PendingActivityInfo, waited_s: float
) -> UnstartedTask | None:
    """
    Read why an attempt is not at work; None when it is.

    :param waited_s: for how long it has been seen to wait.
    """
    if pending.state in PAUSED_STATES:
        told = f"paused in Temporal, by others: unpause {pending.activity_id} there"
        return UnstartedTask(pending.attempt, False, told)
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return None
    attempt, cause = await _last_failure(pending)
    left_s = None
    if pending.HasField("next_attempt_schedule_time"):  # until that time has come
        left_s = pending.current_retry_interval.ToMicroseconds() / 1e6 - waited_s
    return unstarted_task(pending.activity_type.name, attempt, cause, left_s)


def unstarted_task(
    role: str, attempt: int, cause: str, left_s: float | None
) -> UnstartedTask:
    """
    Say what the attempt waits for, which is to begin in *left_s*; None when it is due.

    :param cause: of the failure before it; "" when there was none.
    """
    after = f", after {cause}" if cause else ""
    if cause and left_s is not None:
        when = f"in {left_s:.0f} s" if left_s >= 1 else "at once"
        return UnstartedTask(attempt, True, f"attempt {attempt} {when}{after}")
    told = (
        f"for a free worker of role {role}{after}; `outlast workers` lists them, "
        "outlast-worker starts one"
    )
    return UnstartedTask(attempt, False, told)


async def _last_failure(pending: PendingActivityInfo) -> tuple[int, str]:
    """
    Read the number of the next attempt, as the ledger counts, and why the last one
    has failed.
    """
    if not pending.HasField("last_failure"):
        return pending.attempt, ""
    error = await pydantic_data_converter.decode_failure(pending.last_failure)
    if isinstance(error, ApplicationError):
        match error.details:
            case [_, int(counted), *_] if counted:
                return counted + 1, error.message
        return pending.attempt, error.message
    return pending.attempt, str(error)
