"""
What the starter says where the server it found does not know the mission.
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

from outlast.cli.run_mission import RunOptions, print_address
from outlast.cli.snapshot import NO_SERVER, NO_WORKERS, explain_no_answer
from outlast.contracts.errors import BadInputError, OutlastError
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.store.home_temporal import ServerIdentity, bind_server
from outlast.temporal.client import Handle
from outlast.temporal.updates import UNKNOWN_TO_SERVER, send_update


class Config:
    target_host = "127.0.0.1:7233"


class Server:
    """
    A server, as client and as handle at once, that answers all with *status*.
    """

    config = Config()
    namespace = "default"

    def __init__(self, status: RPCStatusCode | TimeoutError | None) -> None:
        self._status = status

    @property
    def service_client(self) -> "Server":
        return self

    workflow_service = service_client

    async def describe_namespace(self, asked: Any) -> DescribeNamespaceResponse:
        return DescribeNamespaceResponse(namespace_info=NamespaceInfo(id="another"))

    async def get_cluster_info(self, asked: Any) -> GetClusterInfoResponse:
        return GetClusterInfoResponse(cluster_id="another")

    def get_workflow_handle(self, mission: str, **more: Any) -> "Server":
        return self

    async def describe(self) -> None:
        if isinstance(self._status, TimeoutError):
            raise self._status
        if self._status is not None:
            raise RPCError("workflow not found for ID", self._status, b"")

    async def execute_update(self, name: str, args: list[Any]) -> None:
        await self.describe()

    result = describe


def server(
    status: RPCStatusCode | TimeoutError | None = RPCStatusCode.NOT_FOUND,
) -> Any:
    return Server(status)


@pytest.fixture
def books(store: Store) -> MissionRecords:
    theirs = ServerIdentity(
        cluster="first", namespace="default", namespace_id="first", address="first:1"
    )
    bind_server(store, theirs, open_now=0)
    found = MissionRecords(store)
    found.open(mission(id=MISSION))
    found.accept(MISSION)
    return found


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (RPCStatusCode.NOT_FOUND, UNKNOWN_TO_SERVER),
        (RPCStatusCode.UNAVAILABLE, NO_SERVER),
        (TimeoutError(), NO_SERVER),
        (None, NO_WORKERS),
    ],
)
async def test_silence_has_its_own_cause(
    status: RPCStatusCode | TimeoutError | None, told: str
) -> None:
    """
    Workers are asked for only where they would help, not where a disk is full and the
    server answers nothing.
    """
    assert await explain_no_answer(server(status)) == told


async def test_an_order_to_a_mission_of_another_server_says_so(
    books: MissionRecords, store: Store
) -> None:
    """
    What the ledger has open and the server does not know is on another server.
    """
    with pytest.raises(BadInputError) as refusal:
        await send_update(server(), store, MISSION, "cancel", "enough")
    assert told_in_one_sentence(refusal.value) == f"{MISSION}: {UNKNOWN_TO_SERVER}"


async def test_an_order_to_an_ended_mission_is_refused_as_before(
    books: MissionRecords, store: Store
) -> None:
    """
    Starting it again would be no help.
    """
    only = outcome("only", TaskStatus.DONE)
    books.close(report(MISSION, MissionStatus.COMPLETED, only))
    with pytest.raises(BadInputError, match="is under way"):
        await send_update(server(), store, MISSION, "cancel", "enough")


async def test_who_follows_a_mission_that_the_server_lost_is_told(
    books: MissionRecords, store: Store
) -> None:
    """
    Following ends in the same words.
    """
    with pytest.raises(OutlastError, match="start it again"):
        await Handle(MISSION, server(), store).result()


@pytest.mark.parametrize(
    ("embedded", "as_json", "told"),
    [
        (False, False, "on Temporal 127.0.0.1:7233\n"),
        (True, False, ""),
        (False, True, "on Temporal 127.0.0.1:7233\n"),
    ],
)
def test_new_work_says_where_it_goes(
    embedded: bool,
    as_json: bool,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    A server that was found may be a stranger's; one's own needs no word.
    """
    print_address(server(), RunOptions(embedded, as_json, plain=True, strict=False))
    said = capsys.readouterr()
    assert (said.err, said.out) == (told, "")
