"""
Which run of a mission's workflow may claim: the one that the server calls current.

The server is asked once for a run, when the ledger sees it first, and again by what
comes late from an old one. What has claimed before is never asked about.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import StaleAttemptError, UnknownRunError
from outlast.contracts.retries import backoff_s
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.fence import Fence

logger = logging.getLogger("outlast.execution")

T = TypeVar("T")

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


async def in_run_order(
    ledger: Fence, order: int | AttemptOrder, mission: str, claim: Callable[[], T]
) -> T:
    """
    Do *claim*, which blocks; where the ledger does not know the attempt's run as the
    last one, admit it first.

    :raises StaleAttemptError: when the server has a later run, or none.
    """
    while True:
        try:
            return await ledger.store.run(claim)
        except UnknownRunError as unknown:
            assert isinstance(order, AttemptOrder)
            current = await order.current_run()
            if current != order.run:
                raise StaleAttemptError(_superseded_text(mission, current)) from None
            await ledger.store.run(ledger.admit_run, mission, order.run, unknown.last)


def _superseded_text(mission: str, current: str | None) -> str:
    if current is None:
        return f"{mission}: no run of it is under way, so nobody waits for this attempt"
    return f"{mission}: a later run of it is under way, so this attempt is over"
