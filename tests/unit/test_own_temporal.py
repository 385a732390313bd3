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
from outlast.contracts.reports import Status
from outlast.ledger.missions import Books
from outlast.store.database import Store
from outlast.store.home_temporal import Temporal, forget, known
from outlast.temporal.own_temporal import identify, refuse_another


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
    await refuse_another(cluster("a", "here:1"), store)
    Books(store).open(mission())
    with pytest.raises(BadInputError) as refusal:
        await refuse_another(cluster("b", "there:2"), store)
    told = told_in_one_sentence(refusal.value)
    for part in ("1 open", "here:1", "there:2", "TEMPORAL_ADDRESS", "--new-temporal"):
        assert part in told
    await refuse_another(cluster("a", "elsewhere:3"), store)


async def test_a_store_without_open_missions_goes_where_it_is_used(
    store: Store,
) -> None:
    """
    What has ended needs no server.
    """
    await refuse_another(cluster("a"), store)
    Books(store).open(mission())
    Books(store).close(report(MISSION, Status.COMPLETED, outcome("o", Status.DONE)))
    await refuse_another(cluster("b"), store)
    found = known(store)
    assert found is not None
    assert found.namespace_id == "b"


async def test_a_temporal_that_is_gone_for_good_is_let_go(store: Store) -> None:
    """
    Its missions are started again, on another one.
    """
    await refuse_another(cluster("a"), store)
    Books(store).open(mission())
    forget(store)
    await refuse_another(cluster("b"), store)
    with pytest.raises(BadInputError):
        await refuse_another(cluster("a"), store)


async def test_one_that_may_not_be_looked_at_is_taken(store: Store) -> None:
    """
    An API key that may only work is no reason to refuse to.
    """
    await refuse_another(cluster("a"), store)
    Books(store).open(mission())
    shut = cluster("b")
    shut.denied = True
    assert await identify(shut) is None
    await refuse_another(shut, store)


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
    one = Temporal(cluster="c", namespace="n", namespace_id="", address="x:1")
    other = Temporal(
        cluster=cluster_id, namespace=namespace, namespace_id="", address="x:1"
    )
    assert one.is_same_as(other) is same
