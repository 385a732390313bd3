"""
The exit report: tell the server that an attempt died with its process.

It ends the attempt by its task token, not retryable, with its last checkpoint, so
that the workflow dispatches it again at once and no timer is in the way. It is only
made of the dead: the caller has killed first and holds the recorder's lock.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    ResetStickyTaskQueueRequest,
    ShutdownWorkerRequest,
)
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import UnavailableError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.quarantine import UNSEEN_DEATH
from outlast.fleet.exits import Exit
from outlast.fleet.recorder_reader import CrashedRecorder, InFlightAttempt, remove
from outlast.fleet.unstarted_attempts import (
    QUERY_DELAYS_S,
    ask_open_missions,
    end_unstarted,
)
from outlast.temporal.worker_list import list_workers

logger = logging.getLogger("outlast.fleet")

# The kernel drops a dead process's lock within moments of closing its channel.
RECORDER_LOCK_S = 1.0
# While the server is away a report waits; longer than this, every heartbeat timeout
# has ended them already.
REPORT_LIMIT_S = 600.0
REPORT_RETRY_S = 0.2
DEREGISTER_DELAY_S = 1.0

# Open missions whose sticky queues are reset; any others go on after the timeout of the
# queue, which on a server with stock timers may come a second late.
MAX_RESETS = 100

Connect = Callable[[], Awaitable[Client]]


class ExitReporter:
    """
    Reports what dead workers had in flight.

    :param connect: returns the client, waiting for the server as long as it takes.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self.reported = 0

    async def client(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
        return self._client

    async def report_all(self, recorder: Path, pid: int, ended: Exit) -> None:
        """
        Report what the dead process *pid* had in flight, then end what else the server
        holds for it.
        """
        await self.report(recorder, ended)
        after_s = (0.0,) if ended.drained else QUERY_DELAYS_S
        self.reported += await end_unstarted(await self.client(), pid, ended, after_s)

    async def report(self, recorder: Path, ended: Exit) -> int:
        """
        Report every in-flight attempt of *recorder*, then remove it; returns how many
        there were.
        """
        crashed = await _open_recorder(recorder)
        if crashed is None:
            return 0
        in_flight = list(crashed.in_flight())
        ended.set_in_flight(in_flight, idle=crashed.was_idle)
        errors = [exit_error(each, ended) for each in in_flight]
        await asyncio.gather(*map(self._report, in_flight, errors))
        remove(recorder)
        return len(in_flight)

    async def _report(self, attempt: InFlightAttempt, error: ApplicationError) -> None:
        deadline = time.monotonic() + REPORT_LIMIT_S
        while time.monotonic() < deadline:
            try:
                client = await self.client()
                handle = client.get_async_activity_handle(task_token=attempt.token)
                await handle.fail(error)
            except RPCError as refused:
                if refused.status is RPCStatusCode.NOT_FOUND:
                    return  # its end had arrived, or the server gave it up before us
                await asyncio.sleep(REPORT_RETRY_S)
            else:
                self.reported += 1
                told = (attempt.mission, attempt.task, attempt.attempt, error.message)
                logger.info("attempt.reported %s/%s attempt %s: %s", *told)
                return

    async def reset_sticky_queues(self) -> None:
        """
        Have no open mission wait for a dead process with workflows, which the server
        asks first since it has their state. A mission of another process is replayed
        there once, which costs time and changes nothing.
        """
        client = await self.client()

        async def reset(execution: WorkflowExecution) -> None:
            request = ResetStickyTaskQueueRequest(
                namespace=client.namespace, execution=execution
            )
            await client.workflow_service.reset_sticky_task_queue(request)

        try:
            answers = await ask_open_missions(client, MAX_RESETS, reset)
        except RPCError as error:
            logger.warning("sticky_queues.not_reset: %s", error.message)
            return
        logger.info("sticky_queues.reset %s", answers.count(None))
        failed = [each for each in answers if each is not None and not _has_ended(each)]
        if failed:
            logger.warning("sticky_queues.not_reset %s: %s", len(failed), failed[0])

    async def deregister_worker(self, identity: str, cause: str) -> None:
        """
        Remove the dead worker from the server's list, where it would stay for minutes.
        """
        # Not at once: the server has the dead one's tasks to hand out first.
        await asyncio.sleep(DEREGISTER_DELAY_S)
        client = await self.client()
        try:
            for each in await list_workers(client, f"WorkerIdentity = '{identity}'"):
                await client.workflow_service.shutdown_worker(
                    ShutdownWorkerRequest(
                        namespace=client.namespace,
                        identity=identity,
                        worker_instance_key=each.worker_instance_key,
                        reason=cause,
                    )
                )
        except (UnavailableError, RPCError) as error:
            # A server without worker lists forgets it by itself.
            logger.debug("worker.not_deregistered: %s", error)


def _has_ended(error: BaseException) -> bool:
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND


def exit_error(attempt: InFlightAttempt, ended: Exit) -> ApplicationError:
    """
    Make the error that ends *attempt* of a process that has *ended*.
    """
    message, kind = f"exit report: {ended.cause}", FailureType.CRASHED
    detector, death = ended.detector, ended.death(attempt)
    if ended.handed_back:
        message, kind = "the worker drained", FailureType.DRAINED
        detector, death = Detector.DRAIN, UNSEEN_DEATH
    details = FailureDetails(
        detected_by=detector,
        checkpoint=attempt.checkpoint,
        attempts=attempt.attempt,
        death=death,
    )
    return ApplicationError(message, details.dump(), type=kind, non_retryable=True)


async def _open_recorder(recorder: Path) -> CrashedRecorder | None:
    deadline = time.monotonic() + RECORDER_LOCK_S
    while time.monotonic() < deadline:
        crashed = CrashedRecorder.open(recorder)
        if crashed is not None or not recorder.exists():  # noqa: ASYNC240 - a stat
            return crashed
        await asyncio.sleep(0.001)
    if await asyncio.to_thread(recorder.exists):
        # The process that holds it reports them, or their heartbeat timeouts do.
        logger.warning(
            "recorder.locked %s: another process still holds it", recorder.name
        )
    return None
