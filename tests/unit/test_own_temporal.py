"""
A store and the one Temporal that its missions live on.
"""

from typing import Any

import pytest
from temporalio.api.namespace.v1 import NamespaceInfo
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceResponse,
    GetClusterInfoResponse,
)
from temporalio.service import RPCError, RPCStatusCode
from unit_fakes import MISSION, mission, outcome, report, told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.store.home_temporal import ServerIdentity, bound_server, forget_server
from outlast.temporal.own_temporal import identify_server, require_known_server


class Cluster:
    """
    A Temporal, as its own client: a namespace with an id of its own.
    """

    namespace = "default"

    def __init__(self, id_: str, target: str = "127.0.0.1:7233") -> None:
        self.id = id_
        self.target_host = target
        self.denied = False

    @property
    def workflow_service(self) -> "Cluster":
        return self

    service_client = config = workflow_service

    async def describe_namespace(self, asked: Any) -> DescribeNamespaceResponse:
        if self.denied:
            raise RPCError("denied", RPCStatusCode.PERMISSION_DENIED, b"")
        return DescribeNamespaceResponse(namespace_info=NamespaceInfo(id=self.id))

    async def get_cluster_info(self, asked: Any) -> GetClusterInfoResponse:
        return GetClusterInfoResponse(cluster_id=f"of {self.target_host}")


def cluster(id_: str, target: str = "127.0.0.1:7233") -> Any:
    return Cluster(id_, target)


async def test_missions_are_not_taken_to_another_temporal(store: Store) -> None:
    """
    The sentence says where they live, where this is, and every way out.
    """
    await require_known_server(cluster("a", "here:1"), store)
    MissionRecords(store).open(mission())
    with pytest.raises(BadInputError) as refusal:
        await require_known_server(cluster("b", "there:2"), store)
    told = told_in_one_sentence(refusal.value)
    for part in ("1 open", "here:1", "there:2", "TEMPORAL_ADDRESS", "--new-temporal"):
        assert part in told
    await require_known_server(cluster("a", "elsewhere:3"), store)


async def test_a_store_without_open_missions_goes_where_it_is_used(
    store: Store,
) -> None:
    """
    What has ended needs no server.
    """
    await require_known_server(cluster("a"), store)
    MissionRecords(store).open(mission())
    MissionRecords(store).close(
        report(MISSION, MissionStatus.COMPLETED, outcome("o", TaskStatus.DONE))
    )
    await require_known_server(cluster("b"), store)
    found = bound_server(store)
    assert found is not None
    assert found.namespace_id == "b"


async def test_a_temporal_that_is_gone_for_good_is_let_go(store: Store) -> None:
    """
    Its missions are started again, on another one.
    """
    await require_known_server(cluster("a"), store)
    MissionRecords(store).open(mission())
    forget_server(store)
    await require_known_server(cluster("b"), store)
    with pytest.raises(BadInputError):
        await require_known_server(cluster("a"), store)


async def test_one_that_may_not_be_looked_at_is_taken(store: Store) -> None:
    """
    An API key that may only work is no reason to refuse to.
    """
    await require_known_server(cluster("a"), store)
    MissionRecords(store).open(mission())
    shut = cluster("b")
    shut.denied = True
    assert await identify_server(shut) is None
    await require_known_server(shut, store)


@pytest.mark.parametrize(
    ("cluster_id", "namespace", "same"),
    [("c", "n", True), ("c", "m", False), ("d", "n", False)],
)
def test_without_a_namespaces_id_the_clusters_decides(
    cluster_id: str, namespace: str, same: bool
) -> None:
    """
    Servers of other makes may not have one.
    """
    one = ServerIdentity(cluster="c", namespace="n", namespace_id="", address="x:1")
    other = ServerIdentity(
        cluster=cluster_id, namespace=namespace, namespace_id="", address="x:1"
    )
    assert one.is_same_as(other) is same
