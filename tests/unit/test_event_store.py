"""
The durable copy of the mesh's log, on both databases.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit_fakes import mission, outcome, report

from outlast.cli.redrive import redrive
from outlast.cli.session import Session
from outlast.contracts.errors import BadInputError
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.scopes import Scope
from outlast.ledger.missions import MissionRecords
from outlast.mesh.core.events import PeerJoined, event
from outlast.mesh.core.replicated_log import LogChange, ReplicatedLog
from outlast.mesh.node.event_store import EventStore
from outlast.store.database import Store


def some(origin: str, count: int, start: int = 1) -> ReplicatedLog:
    log = ReplicatedLog(heads={origin: start - 1} if start > 1 else {})
    for seq in range(start, start + count):
        log.append(event(origin, seq, 0.5, PeerJoined(peer="a", join_count=seq)))
    return log


def contents(log: ReplicatedLog) -> tuple[object, ...]:
    return sorted(log, key=lambda each: each.key), log.high_water, log.low_water


def test_what_was_recorded_is_loaded(store: Store) -> None:
    """
    Events, heads and floors, as the core had them.
    """
    log = ReplicatedLog()
    durable = EventStore(store, "a")
    durable.record(log.merge(some("b~log~1", 1200).missing({}, 10**9)[0]))
    durable.record(log.drop([("b~log~1", 3), ("b~log~1", 1200)]))
    assert contents(durable.load()) == contents(log)
    assert durable.load().high_water == {"b~log~1": 1200}
    assert durable.load().low_water == {"b~log~1": 1200}


def test_the_same_change_again_is_ignored(store: Store) -> None:
    """
    After a death between the log and what follows from it, it may come twice, and an
    older one late: no head goes back.
    """
    log = ReplicatedLog()
    durable = EventStore(store, "a")
    first = log.merge(some("b~log~1", 2).missing({}, 10**9)[0])
    then = log.merge(some("b~log~1", 3, start=3).missing({"b~log~1": 2}, 10**9)[0])
    for change in (first, then, then, first, LogChange()):
        durable.record(change)
    assert contents(durable.load()) == contents(log)


def test_peers_that_share_a_store_have_their_own_logs(store: Store) -> None:
    """
    Each under its name.
    """
    logs = {}
    for peer, count in (("a", 2), ("b", 3)):
        logs[peer] = ReplicatedLog()
        change = logs[peer].merge(some("c~log~1", count).missing({}, 10**9)[0])
        EventStore(store, peer).record(change)
    for peer, log in logs.items():
        assert contents(EventStore(store, peer).load()) == contents(log)
    assert contents(EventStore(store, "d").load()) == contents(ReplicatedLog())


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=st.text(max_size=200))
def test_any_text_survives(store: Store, body: str) -> None:
    """
    A mission's words are in it, whatever they are.
    """
    peer = f"p{abs(hash(body))}"
    fact = PeerJoined.model_construct(kind="peer.joined", peer=body, nth=1)
    log = ReplicatedLog()
    change = log.append(event("a~log~1", 1, 0.0, fact))
    EventStore(store, peer).record(change)
    assert contents(EventStore(store, peer).load()) == contents(log)


async def test_a_run_that_has_ended_is_not_redriven(store: Store) -> None:
    """
    It would go on without a permit, and the mesh would not hear of its end.
    """
    books = MissionRecords(store)
    books.open(mission(id="job~run~1", scope=Scope(path="job")))
    books.close(
        report("job~run~1", MissionStatus.FAILED, outcome("only", TaskStatus.DEAD))
    )
    with pytest.raises(BadInputError, match="job~run~1 was run for the mesh"):
        await redrive(Session(store), "job~run~1", None, None, None)
