"""
Start a workflow and wait for its report, however often the server goes away.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from outlast.contracts.errors import BadInputError, RefusedError, UnavailableError
from outlast.contracts.failures import FailureType
from outlast.store.outages import is_transient_grpc
from outlast.temporal.connect import describe_address
from outlast.temporal.workflow_state import interrupted, why_ended, workflow_state

START_RETRY_S = 0.3
# What no server has taken for so long is given back to the caller.
START_LIMIT_S = 60.0

T = TypeVar("T")


async def start_until_taken(
    client: Client, what: str, start: Callable[[], Awaitable[T]]
) -> T:
    """
    Call *start* again and again while the server is away: a workflow's id makes that
    safe.

    :raises UnavailableError: when no server takes it.
    """
    deadline = asyncio.get_running_loop().time() + START_LIMIT_S
    while True:
        try:
            return await start()
        except RPCError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or not is_transient_grpc(error.status.name):
                raise UnavailableError(
                    f"Temporal at {describe_address(client)} did not take the {what}: "
                    f"{error.message}"
                ) from error
        await asyncio.sleep(START_RETRY_S)


async def await_report(
    handle: WorkflowHandle[Any, T],
    report_in: Callable[[BaseException | None], T | None],
    on_error: Callable[[RPCError], T | None],
) -> T:
    """
    Wait for a workflow's report, through any number of server restarts and of resets.

    :param report_in: finds the report in the error that a workflow failed with.
    :param on_error: returns a report to use where the server answers with an error;
        None to ask again; raises where asking again cannot help.
    :raises BadInputError: when the workflow has refused what it was given.
    :raises RefusedError: when it was ended in Temporal, by others.
    """
    ended = ""
    while True:
        try:
            return await handle.result()
        except WorkflowFailureError as error:
            if (report := report_in(error.cause)) is not None:
                return report
            if refusal := refusal_in(error):
                raise BadInputError(refusal) from None
            ended = await _require_open(handle, ended)
        except RPCError as error:
            if (kept := on_error(error)) is not None:
                return kept
            await asyncio.sleep(START_RETRY_S)


def refusal_in(error: WorkflowFailureError) -> str:
    """
    Read why a workflow has refused its input; "" where it has failed otherwise.
    """
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == FailureType.BAD_INPUT:
        return cause.message
    return ""


async def _require_open(handle: WorkflowHandle[Any, Any], ended: str) -> str:
    """
    Return the latest run of a workflow that has ended without a report: after a reset
    it goes on in another one than *ended*, the run that is known to have ended.

    :raises RefusedError: when it was ended by others, with the commands that help.
    """
    try:
        seen = await workflow_state(handle)
        if seen.is_running or (seen.run and seen.run != ended):
            return seen.run
        why = await why_ended(handle, seen)
    except RPCError:
        await asyncio.sleep(START_RETRY_S)
        return ended
    raise RefusedError(interrupted(handle.id, why))
