"""
What the ledger keeps of an attempt's end: its record is closed, its failure counted.

Neither may change what becomes of the task, nor for long when.
"""

import asyncio
from typing import Protocol

from temporalio import activity

from outlast.agents.service_call import ServiceTrouble
from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.errors import StaleAttemptError, StoreError
from outlast.contracts.failures import FailureType
from outlast.execution.exceptions import UNCOUNTED_ERRORS
from outlast.execution.in_flight import InFlightSlot
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.claim import Claim
from outlast.ledger.fence import Retries

# How long an end waits for its record in the ledger, and to be counted there.
CLOSE_LIMIT_S = 1.0
COUNT_LIMIT_S = 10.0


class Execution(Protocol):
    """
    What of an attempt, at a task or at a lease, its end needs.
    """

    worker: WorkerContext
    input: AttemptInput
    claim: Claim | None
    in_flight: InFlightSlot
    trouble: ServiceTrouble

    @property
    def checkpoint(self) -> Checkpoint: ...

    def heartbeat(self) -> None: ...


async def count_failure(attempt: Execution, cause: str, trace: str) -> int:
    """
    Count the failure in the ledger; when that cannot be done, by the server's number.

    :raises StoreLostError, TimeoutError: when the store keeps it from being counted.
    """
    ledger = attempt.worker.ledger
    if attempt.claim is None:
        return activity.info().attempt
    counting = ledger.store.run(
        ledger.record_failure, attempt.claim, cause, trace, Retries()
    )
    try:
        return await asyncio.wait_for(counting, COUNT_LIMIT_S)
    except (StaleAttemptError, *UNCOUNTED_ERRORS, TimeoutError):
        raise
    except Exception:
        activity.logger.exception("failure.not_counted")
        return activity.info().attempt


async def record_end(
    attempt: Execution, ending: str, trace: str = "", kind: FailureType | None = None
) -> None:
    """
    Close the attempt's record, within a limit: it must not change what becomes of the
    task, nor for long when.
    """
    await asyncio.wait(
        {close_record(attempt, ending, trace, kind)}, timeout=CLOSE_LIMIT_S
    )


def close_record(
    attempt: Execution, ending: str, trace: str = "", kind: FailureType | None = None
) -> asyncio.Future[None]:
    closing = asyncio.ensure_future(_write_end(attempt, ending, trace, kind))
    attempt.worker.closing.add(closing)
    closing.add_done_callback(attempt.worker.closing.discard)
    return closing


async def _write_end(
    attempt: Execution, ending: str, trace: str, kind: FailureType | None
) -> None:
    ledger = attempt.worker.ledger
    if attempt.claim is None:
        return
    try:
        await ledger.store.run(ledger.record_end, attempt.claim, ending, trace, kind)
    except StoreError as error:
        activity.logger.warning("attempt.not_closed: %s", error)
    except Exception:
        activity.logger.exception("attempt.not_closed")


async def flush_closing(closing: set[asyncio.Future[None]]) -> None:
    """
    Wait a moment until the records of attempts that were handed on are written.
    """
    if closing:
        await asyncio.wait(closing, timeout=CLOSE_LIMIT_S)
