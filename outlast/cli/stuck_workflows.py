"""
Find missions whose workflow task fails again and again: without a look at the server
they seem only to be slow.
"""

import asyncio
from collections.abc import Iterable

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import UnavailableError

# One failed workflow task may be a deploy in progress; the second one is not.
STUCK_ATTEMPTS = 2
# A server that answers nothing, as on a full disk, is asked for no longer: the client
# itself would go on for 10 s.
DESCRIBE_LIMIT_S = 2.0
SILENT = "not looked at, since the server does not answer"


async def workflow_task_failure(client: Client, mission: str) -> str | None:
    """
    Say why the mission's workflow task fails, or None when it does not, or the server
    does not answer.
    """
    try:
        return await _cause(client, mission)
    except (RPCError, TimeoutError):
        return None


async def stuck_missions(client: Client, missions: Iterable[str]) -> list[str]:
    """
    Name those of *missions* that are wedged, each with its cause.

    :raises UnavailableError: when the server does not answer for one of them.
    """
    found = []
    for mission in sorted(missions):
        try:
            cause = await _cause(client, mission)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise UnavailableError(f"{SILENT}: {error.message}") from None
        except TimeoutError:
            raise UnavailableError(SILENT) from None
        else:
            found += [f"{mission}: {cause}"] if cause else []
    return found


async def _cause(client: Client, mission: str) -> str | None:
    handle = client.get_workflow_handle(mission)
    async with asyncio.timeout(DESCRIBE_LIMIT_S):
        description = await handle.describe()
    pending = description.raw_description.pending_workflow_task
    if pending.attempt < STUCK_ATTEMPTS:
        return None
    cause = ""
    async for event in handle.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            cause = _root_message(event.workflow_task_failed_event_attributes.failure)
    return f"workflow task failed {pending.attempt - 1} times: {cause or 'timed out'}"


def _root_message(failure: Failure) -> str:
    """
    Read the message of what was first: what wraps it says only where.
    """
    while failure.HasField("cause"):
        failure = failure.cause
    return failure.message
