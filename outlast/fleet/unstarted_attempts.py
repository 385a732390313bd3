"""
Attempts that the server holds for a dead worker and that no recorder held: handed to a
poll that died with its process, or beyond what the recorder has room for.

The parent asks after each death of a worker, so that no mission waits for a heartbeat
timeout. Ending them by id is safe: their worker is dead, so nobody else can end them,
and one that another worker has meanwhile is not listed under the dead one.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from typing import TypeVar

from pydantic import ValidationError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.attempts import Checkpoint, Heartbeat
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MISSIONS_QUEUE, WorkerIdentity, parse
from outlast.fleet.exits import Exit
from outlast.fleet.process_kinds import ProcessKind

logger = logging.getLogger("outlast.fleet")

# When the server is asked after a death: not at once, since what the recorder held goes
# on first, and again, since the server may hand out a task to the dead a moment later.
QUERY_DELAYS_S = (0.15, 0.6)

# Open missions and batches that are asked for, and so many at a time. Past it the
# heartbeat timeout is what notices; each costs the server some 3 ms.
MAX_MISSIONS_ASKED = 1000
CONCURRENT_QUERIES = 8

OPEN_MISSIONS = f"TaskQueue = '{MISSIONS_QUEUE}' AND ExecutionStatus = 'Running'"

PENDING_STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
IMMEDIATELY = timedelta(milliseconds=1)  # 0 would mean the policy's back-off

T = TypeVar("T")
Held = tuple[WorkflowExecution, PendingActivityInfo]  # of a mission, for a dead worker


async def ask_open_missions(
    client: Client, limit: int, ask: Callable[[WorkflowExecution], Awaitable[T]]
) -> list[T | BaseException]:
    """
    Call *ask* for up to *limit* open missions and batches, some at a time.

    :raises RPCError: when the server does not list them.
    """
    turns = asyncio.Semaphore(CONCURRENT_QUERIES)

    async def in_turn(execution: WorkflowExecution) -> T:
        async with turns:
            return await ask(execution)

    asked = [
        asyncio.ensure_future(
            in_turn(WorkflowExecution(workflow_id=each.id, run_id=each.run_id))
        )
        async for each in client.list_workflows(OPEN_MISSIONS, limit=limit)
    ]
    return await asyncio.gather(*asked, return_exceptions=True)


async def end_unstarted(
    client: Client, pid: int, end: Exit, after_s: tuple[float, ...] = QUERY_DELAYS_S
) -> int:
    """
    End what the server holds for the dead worker process *pid* of this host; returns
    how many attempts that were.
    """
    ended = 0
    for seconds in after_s:
        await asyncio.sleep(seconds)
        try:
            for execution, activity in await _held_for(client, pid):
                ended += await _end(client, execution, activity, end)
        except RPCError as error:
            logger.warning("attempts.not_queried: %s", error.message)
    return ended


async def _held_for(client: Client, pid: int) -> list[Held]:
    async def ask(execution: WorkflowExecution) -> list[Held]:
        request = DescribeWorkflowExecutionRequest(
            namespace=client.namespace, execution=execution
        )
        found = await client.workflow_service.describe_workflow_execution(request)
        return [
            (execution, each)
            for each in found.pending_activities
            if each.state == PENDING_STARTED and _is_of(each, pid)
        ]

    answers = await ask_open_missions(client, MAX_MISSIONS_ASKED, ask)
    # One that raises has ended meanwhile, or the server is away: a timeout notices it.
    told = [each for each in answers if not isinstance(each, BaseException)]
    return list(chain.from_iterable(told))


def _is_of(activity: PendingActivityInfo, pid: int) -> bool:
    worker = parse(WorkerIdentity, activity.last_worker_identity)
    return worker is not None and worker[:2] == (pid, socket.gethostname())


async def _end(
    client: Client,
    execution: WorkflowExecution,
    activity: PendingActivityInfo,
    end: Exit,
) -> bool:
    mission, activity_id = execution.workflow_id, activity.activity_id
    handle = client.get_async_activity_handle(
        workflow_id=mission, run_id=execution.run_id, activity_id=activity_id
    )
    try:
        await handle.fail(await _error(client, activity, end))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            logger.warning("attempt.not_ended %s: %s", mission, error.message)
        return False
    logger.info("attempt.unstarted_ended %s/%s: %s", mission, activity_id, end.cause)
    return True


async def _error(
    client: Client, activity: PendingActivityInfo, end: Exit
) -> ApplicationError:
    """
    Say that it never started or, when it has sent heartbeats, that it died. The server
    retries a mission's bookkeeping, at once.
    """
    worker = parse(WorkerIdentity, activity.last_worker_identity)
    if worker is not None and worker.kind == ProcessKind.WORKFLOWS:
        return ApplicationError(
            end.cause, type=FailureType.FAILED, next_retry_delay=IMMEDIATELY
        )
    heartbeats = await client.data_converter.decode(activity.heartbeat_details.payloads)
    details = FailureDetails(
        detected_by=end.detector,
        checkpoint=_checkpoint(heartbeats),
        attempts=activity.attempt,
        death=end.death(),
    )
    return ApplicationError(
        f"exit report: {end.cause}{'' if heartbeats else ', before it began'}",
        details.dump(),
        type=FailureType.CRASHED if heartbeats else FailureType.NEVER_STARTED,
        non_retryable=True,
    )


def _checkpoint(heartbeats: list[object]) -> Checkpoint | None:
    with suppress(ValidationError, IndexError):
        return Heartbeat.model_validate(heartbeats[0]).checkpoint
    return None
