"""
Send an update to a running mission, and say why one was not taken.
"""

import asyncio
import contextlib
from typing import Any

from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.ledger.batches import INTERRUPTED, BatchRecords
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.workflow_state import ENDED_OUTSIDE, interrupted

UPDATE_LIMIT_S = 10.0
RECONCILE_LIMIT_S = 5.0
UNKNOWN_TO_SERVER = (
    "this server does not know it; start it again with the same id and file, or with "
    "outlast resume"
)


async def send_update(
    client: Client, store: Store, mission: str, name: str, *args: Any
) -> None:
    """
    Have the workflow of *mission* accept the update *name*.

    :raises BadInputError: when no such mission is under way, or when its workflow
        refuses, in its own words.
    :raises UnavailableError: when no workflow process answers.
    """
    handle = client.get_workflow_handle(mission)
    try:
        async with asyncio.timeout(UPDATE_LIMIT_S):
            await handle.execute_update(name, args=list(args))
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        refusal = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise BadInputError(refusal) from None
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise UnavailableError(f"{mission}: {error.message}") from None
        await try_reconcile(client, store, mission)
        raise BadInputError(_why_unknown(store, mission)) from None
    except TimeoutError:
        raise UnavailableError(
            f"{mission}: no workflow process answers within {UPDATE_LIMIT_S:g} s; "
            "start workers with outlast-worker"
        ) from None


async def try_reconcile(client: Client, store: Store, *names: str) -> None:
    """
    Make the records of these missions and batches true, or of all that are under way;
    leave them as they are where the server does not answer or is not theirs.
    """
    with contextlib.suppress(OutlastError, RPCError, TimeoutError):
        async with asyncio.timeout(RECONCILE_LIMIT_S):
            await require_known_server(client, store)
            reconciler = Reconciler(client, store)
            await (reconciler.check(names) if names else reconciler.all())


def _why_unknown(store: Store, name: str) -> str:
    mission = MissionRecords(store).find(name)
    if mission is not None and mission.interruption:
        return interrupted(name, mission.interruption)
    entry = mission or BatchRecords(store).find(name)
    if entry is not None and entry.state == INTERRUPTED:
        return interrupted(name, ENDED_OUTSIDE)
    if entry is not None and entry.finished_at is None:
        return f"{name}: {UNKNOWN_TO_SERVER}"
    return f"no mission {name!r} is under way: see `outlast list`"
