"""
Hold a store to the one Temporal that its missions live on.
"""

import asyncio

from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetClusterInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from outlast.contracts.errors import BadInputError
from outlast.ledger.missions import Books
from outlast.store.database import Store
from outlast.store.home_temporal import Temporal, bind, known
from outlast.temporal.connect import where_is


async def refuse_another(client: Client, store: Store) -> None:
    """
    Make sure that the open missions of *store* live on the Temporal of *client*, and
    note it for those to come.

    :raises BadInputError: when they live on another one.
    """
    here = await identify(client)
    if here is None:
        return  # not allowed to look, or away: whoever does work there is told later
    if why := await asyncio.to_thread(_why_not, store, here):
        raise BadInputError(why)


async def identify(client: Client) -> Temporal | None:
    """
    Ask which Temporal *client* talks to; None where it does not say.
    """
    service = client.workflow_service
    asked = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        described, cluster = await asyncio.gather(
            service.describe_namespace(asked),
            service.get_cluster_info(GetClusterInfoRequest()),
        )
    except RPCError:
        return None
    return Temporal(
        cluster=cluster.cluster_id,
        namespace=client.namespace,
        namespace_id=described.namespace_info.id,
        address=where_is(client),
    )


def _why_not(store: Store, here: Temporal) -> str:
    """
    Say why the missions of *store* may not live *here*, "" where they may.
    """
    before = known(store)
    if before is not None and before.is_same_as(here):
        return ""
    open_now = Books(store).under_way()
    other = bind(store, here, open_now)
    if other is None:
        return ""
    return (
        f"{open_now} open missions of the store at {store.place} live on another "
        f"Temporal (namespace {other.namespace}, first at {other.address}), not on the "
        f"one at {here.address}: set TEMPORAL_ADDRESS to theirs, or use another store; "
        "if theirs is gone for good, run `outlast migrate --new-temporal`"
    )
