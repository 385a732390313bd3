"""
Where the attempt under way comes in the order, and which run the server calls current.
"""

import asyncio
import logging
from datetime import timedelta
from functools import partial

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.retries import backoff_s
from outlast.ledger.attempt_order import AttemptOrder

logger = logging.getLogger("outlast.execution")

DESCRIBE_LIMIT = timedelta(seconds=5)


def order_of(dispatch: int) -> AttemptOrder:
    """
    Say where the attempt under way comes in the order, by the *dispatch* that its
    workflow has counted.
    """
    info = activity.info()
    assert info.workflow_id is not None
    assert info.workflow_run_id is not None
    return AttemptOrder(
        run=info.workflow_run_id,
        dispatch=dispatch,
        attempt=info.attempt,
        current_run=partial(current_run, activity.client(), info.workflow_id),
    )


async def current_run(client: Client, workflow: str) -> str | None:
    """
    Ask the server which run of *workflow* is under way; None when none is.

    A server that does not answer is asked again, for as long as that takes: it is no
    failure of the attempt that waits.
    """
    handle, tries = client.get_workflow_handle(workflow), 0
    while True:
        try:
            found = await handle.describe(rpc_timeout=DESCRIBE_LIMIT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            tries += 1
            logger.warning("run.unknown %s: %s; asked again", workflow, error.message)
            await asyncio.sleep(backoff_s(tries))
        else:
            return None if found.close_time else found.run_id
