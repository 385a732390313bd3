"""
How attempts at tasks and leases end: the one place that decides what Temporal gets.

    result, recorded            -> Answer
    GiveUp, Parked, a circuit
    that is open                -> not retryable, the workflow decides
    a service failed, and there
    is no other route           -> retried by the server when the service may be asked
                                   again, and not counted
    worker draining, or held
    by the mesh for long        -> not retryable, the workflow hands the task on at once
    anything raised             -> retried by the server after a jittered back-off,
                                   until the ledger counts the policy's failures
    the store is away or lost   -> retried by the server, and not counted
    a later attempt has claimed -> not retryable: this one is over, and if the server
                                   still waits for it the workflow dispatches again,
                                   which counts as nothing
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from outlast.contracts.errors import (
    AgentExitedError,
    ApprovalNeededError,
    CircuitOpenError,
    GiveUp,
    OutlastError,
    ParkedError,
    RunSuspendedError,
    StaleAttemptError,
    TryLater,
)
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.retries import backoff_s
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.execution.end_records import (
    Execution,
    close_record,
    count_failure,
    record_end,
)
from outlast.execution.exceptions import (
    FINAL_ERRORS,
    UNCOUNTED_ERRORS,
    error_text,
    failure_of,
    message_of,
)
from outlast.execution.handback import end_work, uncounted_error
from outlast.execution.service_waits import WaitAction
from outlast.execution.services import ServiceId
from outlast.execution.tracebacks import describe_failure
from outlast.ledger.attempt_order import dispatch_of

logger = logging.getLogger("outlast.execution")

T = TypeVar("T")


async def with_failures_translated(attempt: Execution, doing: Awaitable[T]) -> T:
    """
    Await the attempt's work and put its end in Temporal's terms.
    """
    work, store = asyncio.current_task(), attempt.worker.ledger.store
    assert work is not None
    draining = asyncio.ensure_future(_cancel_on_drain(work, attempt.worker.drain_s))
    away = asyncio.ensure_future(end_work(work, store))
    try:
        try:
            return await doing
        finally:
            draining.cancel()
            away.cancel()
    except asyncio.CancelledError:
        ending = _cancelled(attempt, draining.done(), away)
        raise await await_uncancelled(attempt, ending) from None
    except BaseException as error:
        # The process's edge towards the agent's code, which may raise anything. What
        # caused it stays here: it may be megabytes, or nothing that can be sent.
        failed = _failed(attempt, failure_of(error))
        raise await await_uncancelled(attempt, failed) from None
    finally:
        attempt.in_flight.finish()


async def await_uncancelled(attempt: Execution, telling: Coroutine[Any, Any, T]) -> T:
    """
    Await the report of an end, though the worker may cancel the attempt meanwhile, and
    send heartbeats: where the store is slow the attempt must not look lost.
    """
    told = asyncio.ensure_future(telling)
    while not told.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({told}, timeout=attempt.worker.heartbeat_s)
        if not told.done():
            attempt.heartbeat()
    return told.result()


async def _cancel_on_drain(work: asyncio.Task[Any], short_s: float) -> None:
    """
    Cancel *work* when the worker drains, unless it is younger than a short attempt
    lasts: then it has the rest of that time.
    """
    began = time.monotonic()
    await activity.wait_for_worker_shutdown()
    await asyncio.sleep(began + short_s - time.monotonic())
    work.cancel()


async def _cancelled(
    attempt: Execution, drained: bool, away: asyncio.Future[str]
) -> BaseException:
    details = activity.cancellation_details()
    if drained or (details is not None and details.worker_shutdown):
        # The next attempt is waited for, this one's record is not.
        close_record(attempt, "handed on: the worker drained", kind=FailureType.DRAINED)
        return _drained(attempt, "the worker drained")
    if away.done() and not away.cancelled():
        close_record(
            attempt, "handed on: the store is away", kind=FailureType.STORE_AWAY
        )
        return _uncounted(attempt, away.result())
    await record_end(attempt, "cancelled")
    return asyncio.CancelledError()


async def _failed(attempt: Execution, error: Exception) -> ApplicationError:
    if isinstance(error, StaleAttemptError):
        await record_end(attempt, "refused: stale", kind=FailureType.STALE)
        return _stale_error(attempt, error)
    if isinstance(error, RunSuspendedError):
        kind = FailureType.DRAINED
        await record_end(attempt, "handed on: held by the mesh", kind=kind)
        return _drained(attempt, message_of(error))
    cause, trace = describe_failure(error, error_text(error))
    service = attempt.trouble.behind(error)
    if service is not None and attempt.input.last_route:
        waiting = await _service_error(attempt, service, cause, trace)
        if waiting is not None:
            return waiting
    if isinstance(error, FINAL_ERRORS):
        return await _final_error(attempt, error, cause, trace)
    if isinstance(error, UNCOUNTED_ERRORS):
        return _uncounted(attempt, message_of(error))
    trouble = attempt.worker.ledger.store.calls.trouble
    if trouble is not None:
        # It may have come of that, as a limit of the agent's own does, and there is
        # nowhere to count it.
        return _uncounted(attempt, f"{cause} (while {trouble.text})")
    return await _counted_error(attempt, error, cause, trace)


async def _service_error(
    attempt: Execution, service: ServiceId, cause: str, trace: str
) -> ApplicationError | None:
    """
    End an attempt that *service* has failed and that has no other route: it waits, not
    counted; None where it is counted.
    """
    patience_s = attempt.input.policy.patience_s
    decision = await attempt.worker.service_waits.end_attempt(
        attempt.claim, service, patience_s, cause, trace
    )
    if decision.action is WaitAction.COUNT:
        return None
    if decision.action is WaitAction.STOP_WAITING:
        kind = FailureType.CIRCUIT_OPEN
        await record_end(attempt, cause, trace, kind)
        in_vain = f"waited for {patience_s:g} s in vain: {cause}"
        return _error(attempt, in_vain, kind, Detector.SERVICE)
    return ApplicationError(
        cause,
        _details(attempt, Detector.SERVICE).dump(),
        type=FailureType.SERVICE_AWAY,
        next_retry_delay=timedelta(seconds=decision.delay_s),
    )


async def _final_error(
    attempt: Execution,
    error: GiveUp | ParkedError | CircuitOpenError,
    cause: str,
    trace: str,
) -> ApplicationError:
    words, asks = message_of(error), isinstance(error, ApprovalNeededError)
    await record_end(attempt, words if asks else cause, trace, error.kind)
    _log(attempt, error, cause, trace)
    wanted = error.wanted if isinstance(error, ApprovalNeededError) else []
    return _error(attempt, words, error.kind, Detector.FAILURE, wanted=wanted)


async def _counted_error(
    attempt: Execution, error: Exception, cause: str, trace: str
) -> ApplicationError:
    try:
        failures = await count_failure(attempt, cause, trace)
    except StaleAttemptError as stale:
        return _stale_error(attempt, stale)
    except (*UNCOUNTED_ERRORS, TimeoutError):
        return _uncounted(attempt, cause)
    _log(attempt, error, cause, trace)
    later = error.after if isinstance(error, TryLater) else None
    return ApplicationError(
        cause,
        _details(attempt, Detector.FAILURE).dump(),
        type=FailureType.FAILED,
        non_retryable=failures >= attempt.input.policy.failures,
        next_retry_delay=later or timedelta(seconds=backoff_s(failures)),
    )


def _log(attempt: Execution, error: Exception, cause: str, trace: str) -> None:
    """
    Log a failure, with its traceback unless it is an error of ours, whose words are
    enough. A request for approval is no failure.
    """
    if isinstance(error, ParkedError):
        return
    whose = attempt.input.mission, attempt.input.task.id
    ours = isinstance(error, OutlastError) and not isinstance(error, AgentExitedError)
    more = "" if ours or not trace else f"\n{trace.rstrip()}"
    logger.warning("attempt.failed %s/%s: %s%s", *whose, cause, more)


def _stale_error(attempt: Execution, error: StaleAttemptError) -> ApplicationError:
    """
    Report which dispatch has superseded the attempt. Should the server still wait for
    it, as one that was restored from a backup may, the next one comes after that.
    """
    last = dispatch_of(error.highest)
    found = Detector.SUPERSEDED
    return _error(attempt, str(error), FailureType.STALE, found, dispatch=last)


def _drained(attempt: Execution, why: str) -> ApplicationError:
    return _error(attempt, why, FailureType.DRAINED, Detector.DRAIN)


def _uncounted(attempt: Execution, why: str) -> ApplicationError:
    store = attempt.worker.ledger.store
    details = _details(attempt, Detector.STORE)
    return uncounted_error(one_line(why, CAUSE_CHARS), store, details)


def _error(
    attempt: Execution,
    message: str,
    kind: FailureType,
    detected_by: Detector,
    **details: Any,
) -> ApplicationError:
    found = _details(attempt, detected_by, **details)
    return ApplicationError(message, found.dump(), type=kind, non_retryable=True)


def _details(attempt: Execution, detected_by: Detector, **more: Any) -> FailureDetails:
    return FailureDetails(
        detected_by=detected_by,
        checkpoint=attempt.checkpoint,
        attempts=attempt.claim.attempt if attempt.claim else 0,
        **more,
    )
