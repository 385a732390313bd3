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
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.store.home_temporal import ServerIdentity, bind_server, bound_server
from outlast.temporal.connect import describe_address


async def require_known_server(client: Client, store: Store) -> None:
    """
    Make sure that the open missions of *store* live on the Temporal of *client*, and
    note it for those to come.

    :raises BadInputError: when they live on another one.
    """
    here = await identify_server(client)
    if here is None:
        return  # not allowed to look, or away: the next call there fails and says so
    if why := await asyncio.to_thread(_mismatch, store, here):
        raise BadInputError(why)


async def identify_server(client: Client) -> ServerIdentity | None:
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
    return ServerIdentity(
        cluster=cluster.cluster_id,
        namespace=client.namespace,
        namespace_id=described.namespace_info.id,
        address=describe_address(client),
    )


def _mismatch(store: Store, here: ServerIdentity) -> str:
    """
    Say why the missions of *store* may not live *here*, "" where they may.
    """
    before = bound_server(store)
    if before is not None and before.is_same_as(here):
        return ""
    open_now = MissionRecords(store).count_open()
    other = bind_server(store, here, open_now)
    if other is None:
        return ""
    return (
        f"{open_now} open missions of the store at {store.place} live on another "
        f"Temporal (namespace {other.namespace}, first at {other.address}), not on the "
        f"one at {here.address}: set TEMPORAL_ADDRESS to theirs, or use another store; "
        "if theirs is gone for good, run `outlast migrate --new-temporal`"
    )
