"""
Find missions whose workflow task fails again and again: they look like silence.
"""

import asyncio

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.service import RPCError

# One failed workflow task may be a deploy in progress; the second one is not.
WEDGED_ATTEMPTS = 2
# A server that answers nothing, as on a full disk, is asked for no longer: the client
# itself would go on for 10 s.
DESCRIBE_LIMIT_S = 2.0


async def wedged_cause(client: Client, mission: str) -> str | None:
    """
    Say why the mission's workflow task fails, or None when it does not.
    """
    handle = client.get_workflow_handle(mission)
    try:
        async with asyncio.timeout(DESCRIBE_LIMIT_S):
            description = await handle.describe()
        pending = description.raw_description.pending_workflow_task
        if pending.attempt < WEDGED_ATTEMPTS:
            return None
        cause = ""
        async for event in handle.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                cause = _root(event.workflow_task_failed_event_attributes.failure)
    except (RPCError, TimeoutError):
        return None
    return f"workflow task failed {pending.attempt - 1} times: {cause or 'timed out'}"


def _root(failure: Failure) -> str:
    """
    Read the message of what was first: what wraps it says only where.
    """
    while failure.HasField("cause"):
        failure = failure.cause
    return failure.message
