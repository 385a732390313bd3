"""
One peer: what it refuses, what it says, and whose work it takes.
"""

import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_network import ROLE, Network, mission
from unit_fakes import told_in_one_sentence

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import BadInputError, MalformedMessageError
from outlast.contracts.mesh_timing import (
    MESH_ACK_S,
    MESH_CHECKPOINT_S,
    MESH_CHECKPOINTS,
)
from outlast.contracts.missions import Mission, RoleSpec
from outlast.contracts.tasks import Task
from outlast.mesh.core.effects import RecordChange, SendMessage, StartRun
from outlast.mesh.core.events import CheckpointSaved, PeerJoined, event
from outlast.mesh.core.limits import roles_of
from outlast.mesh.core.messages import (
    Ack,
    Digest,
    Events,
    Message,
    Rebuild,
    pack,
    unpack,
)
from outlast.mesh.core.ownership import (
    Adoption,
    LivePeer,
    current_adoption,
    owner_of,
    rendezvous_owner,
)
from outlast.mesh.core.peer import PeerStateMachine
from outlast.mesh.core.replicated_log import EventSpan

names = st.sets(st.sampled_from("abcdefgh"), min_size=2, max_size=8)


def mesh(peers: str = "abc", seed: int = 1) -> Network:
    net = Network(peers, seed)
    net.run(2.5)
    return net


def core_of(net: Network, name: str) -> PeerStateMachine:
    core = net.nodes[name].core
    assert core is not None
    return core


def span(events: int = 1) -> EventSpan:
    made = [
        event("z~log~1", seq, 0.0, PeerJoined(peer="z", join_count=seq))
        for seq in range(1, events + 1)
    ]
    return EventSpan(origin="z~log~1", after=0, up_to=events, events=made)


@pytest.mark.parametrize(
    "message",
    [
        Digest(sender="a", incarnation=1, summary="x"),
        Digest(
            sender="a",
            incarnation=1,
            summary="x",
            high_water={"a~log~1": 3},
            ask=1,
            answers=2,
        ),
        Events(sender="a", incarnation=1, spans=[span(3)], more=True, rebuilding=True),
        Ack(sender="a", incarnation=1, high_water={"a~log~1": 3}, send_more=True),
        Rebuild(sender="a", incarnation=1),
    ],
)
def test_what_is_packed_is_unpacked(message: Message) -> None:
    """
    The same comes out.
    """
    assert unpack(pack(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(garbage: bytes) -> None:
    """
    What is no message is one error, whatever it is: packed or not.
    """
    for packed in (garbage, zlib.compress(garbage)):
        with pytest.raises(MalformedMessageError):
            unpack(packed)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"kind":"digest","sender":"a","incarnation":1,"summary":"x","more":1}',
        b'{"kind":"ack","sender":"a","incarnation":1,"high_water":{"a~log~1":-1}}',
        b'{"kind":"ack","sender":"a","incarnation":1,"high_water":{"nobody":1}}',
        b'{"kind":"sing","sender":"a","incarnation":1}',
        b"[" * 100_000,
        b" " * (5 * 1024 * 1024),
    ],
)
def test_what_makes_no_sense_is_refused(raw: bytes) -> None:
    """
    Strange fields, numbers and names, and what unfolds to more than it may.
    """
    with pytest.raises(MalformedMessageError):
        unpack(zlib.compress(raw))


def test_garbage_is_counted_and_changes_nothing() -> None:
    """
    So are words in another peer's name, or in this one's own.
    """
    net = mesh()
    core = core_of(net, "a")
    before = dict(core.log.high_water)
    honest = pack(Events(sender="b", incarnation=2**50, spans=[span()]))
    assert core.on_message("b", b"\0\1\2") == []
    assert core.on_message("c", honest) == []
    assert core.on_message("a", pack(Rebuild(sender="a", incarnation=1))) == []
    assert core.refused == {"garbage": 1, "impostor": 2}
    assert core.log.high_water == before
    assert core.on_message("b", honest) != []


def test_the_word_of_an_earlier_life_is_refused() -> None:
    """
    What that one had, this one may have lost.
    """
    core = core_of(mesh(), "a")
    core.on_message("b", pack(Ack(sender="b", incarnation=2**50, high_water={})))
    core.on_message(
        "b", pack(Ack(sender="b", incarnation=2**50 - 1, high_water={"a~log~1": 99}))
    )
    assert core.refused == {"late": 1}


def test_a_submission_is_durable_before_it_is_said() -> None:
    """
    The record comes first, and only one.
    """
    effects = core_of(mesh(), "a").on_submit(mission("task"))
    assert isinstance(effects[0], RecordChange)
    assert [type(each) for each in effects].count(RecordChange) == 1
    assert any(isinstance(each, SendMessage) for each in effects)


def test_fewer_copies_than_asked_for_are_said() -> None:
    """
    Alone it keeps the task, and says after a while that it is the only one.
    """
    net = mesh()
    net.split("a", "b", "c")
    net.submit("a", "task")
    net.run(MESH_ACK_S - 0.5)
    assert net.acknowledged == {}
    net.run(1)
    assert net.acknowledged == {"task": 1}


def test_as_many_copies_as_asked_for_are_waited_for() -> None:
    """
    Three: all have it when it is acknowledged.
    """
    net = mesh()
    net.submit("a", "task", copies=3)
    net.run_until(lambda: "task" in net.acknowledged, MESH_ACK_S)
    assert net.acknowledged == {"task": 3}
    assert all("task" in core.state.tasks for core in net.cores)


def test_the_same_mission_joins_and_another_is_refused() -> None:
    """
    An id is used once, at whichever peer.
    """
    net = mesh()
    net.submit("a", "task")
    net.run(1)
    events = len(core_of(net, "b").log)
    net.acknowledged.clear()
    net.submit("b", "task")
    net.run(MESH_ACK_S)
    assert net.acknowledged["task"] >= 2
    other = mission("task").model_copy(update={"goal": "something else"})
    with pytest.raises(BadInputError) as refusal:
        core_of(net, "b").on_submit(other)
    assert "other content" in told_in_one_sentence(refusal.value)
    assert len(core_of(net, "b").state.of("task").submissions) == 1
    assert events > 0


def large() -> Mission:
    """
    A mission that does not become small by packing.
    """
    draw = random.Random(1)
    inputs = [base64.b64encode(draw.randbytes(20_000)).decode() for _ in range(4)]
    asked = [Task(id=f"t{n}", role=ROLE, input={"x": x}) for n, x in enumerate(inputs)]
    return Mission(id="task", goal="try it", tasks=asked)


@pytest.mark.parametrize("given_", [mission("x" * 100), large()], ids=["id", "size"])
def test_what_the_mesh_cannot_carry_is_refused(given_: Mission) -> None:
    """
    In one sentence, before anything is written.
    """
    core = core_of(mesh(), "a")
    before = len(core.log)
    with pytest.raises(BadInputError) as refusal:
        core.on_submit(given_)
    told_in_one_sentence(refusal.value)
    assert len(core.log) == before


@given(names, st.text(min_size=1, max_size=10))
def test_who_leaves_moves_only_its_own_tasks(peers: set[str], task: str) -> None:
    """
    Rendezvous: the favourite stays unless it is who left.
    """
    chosen = rendezvous_owner(task, peers)
    for gone in peers - {chosen}:
        assert rendezvous_owner(task, peers - {gone}) == chosen


def test_tasks_are_spread_over_the_peers() -> None:
    """
    Of 500 tasks each of five peers gets about a fifth.
    """
    owners = [rendezvous_owner(f"task-{number}", "abcde") for number in range(500)]
    assert all(70 <= owners.count(peer) <= 130 for peer in "abcde")


def live(*peers: str, roles: str = ROLE) -> list[LivePeer]:
    return [LivePeer(name=each, roles=frozenset({roles})) for each in peers]


def test_an_owner_that_lives_stays_the_owner() -> None:
    """
    Who returns takes nothing away; who dies is followed by the same one everywhere.
    """
    kept = Adoption(epoch=1, owner="b")
    for others in ("a", "acd", "acdefgh"):
        assert owner_of("task", [[ROLE]], kept, live("b", *others)) == "b"
    follower = owner_of("task", [[ROLE]], kept, live("a", "c", "d"))
    assert follower == rendezvous_owner("task", "acd")


def test_only_who_plays_the_roles_owns() -> None:
    """
    One of each list; a task that nobody can run waits.
    """
    peers = [*live("a", "b", roles="other"), *live("c")]
    assert owner_of("task", [[ROLE, "spare"]], None, peers) == "c"
    assert owner_of("task", [[ROLE], ["other"]], None, peers) is None
    gone = Adoption(epoch=1, owner="a")
    assert owner_of("task", [[ROLE]], gone, peers) == "c"


def test_who_has_not_caught_up_gets_nothing_new() -> None:
    """
    But keeps what it has.
    """
    blind = [each.model_copy(update={"ready": False}) for each in live("a", "b")]
    assert owner_of("task", [], None, [*blind, *live("c")]) == "c"
    assert owner_of("task", [], None, blind) is None
    assert owner_of("task", [], Adoption(epoch=1, owner="a"), blind) == "a"


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("abc")), min_size=1))
def test_of_two_adoptions_the_higher_epoch_counts(taken: list[tuple[int, str]]) -> None:
    """
    Of the same epoch one, the same for everybody.
    """
    each = [Adoption(epoch=epoch, owner=owner) for epoch, owner in taken]
    found = current_adoption("task", each)
    assert found is not None
    assert found.epoch == max(epoch for epoch, _ in taken)
    assert found == current_adoption("task", reversed(each))


def test_roles_are_those_of_the_routes_of_required_tasks() -> None:
    """
    Any route will do; an optional task may be skipped.
    """
    given_ = Mission(
        id="m",
        goal="try it",
        tasks=[
            Task(id="one", role="writer"),
            Task(id="two", role="critic"),
            Task(id="three", role="extra", required=False),
        ],
        crew={"writer": RoleSpec(routes=["writer", "typist"])},
    )
    assert roles_of(given_) == [["critic"], ["writer", "typist"]]


def test_of_two_that_adopted_apart_one_goes_on() -> None:
    """
    The same task was given to both sides of a split: healed, the loser lets go and
    says to whom, and one result is made.
    """
    net = mesh("ab")
    net.split("a", "b")
    net.run(2)
    net.submit("a", "task")
    net.submit("b", "task")
    net.run(0.5)
    assert {run[1:4] for run in net.started_runs} == {
        ("a", "task", 1),
        ("b", "task", 1),
    }
    net.heal()
    net.run(0.8)
    (owner,) = net.running("task")
    (cancel,) = net.cancelled
    assert cancel.by == Adoption(epoch=1, owner=owner)
    net.run_until(lambda: net.all_finished(["task"]), 10)
    assert core_of(net, "a").state.of("task").superseded_results == []


def reached(saved: Checkpoint) -> CheckpointSaved:
    return CheckpointSaved(task="task", epoch=1, subtask="only", checkpoint=saved)


def test_checkpoints_are_replicated_at_a_bounded_rate() -> None:
    """
    A run that saves 1,000 times a second writes the latest now and then.
    """
    net = mesh("a")
    core = core_of(net, "a")
    net.submit("a", "task")
    before = len(core.log)
    for step in range(1000):
        saved = Checkpoint(seq=step, route=ROLE, value=step)
        net.carry_out(net.nodes["a"], core.on_progress(reached(saved)))
        net.run(0.001)
    assert len(core.log) - before <= 1 / MESH_CHECKPOINT_S + 1
    net.run(MESH_CHECKPOINT_S + 0.2)
    part = core.state.of("task").subtasks["only"]
    assert isinstance(part, CheckpointSaved)
    assert part.checkpoint.seq == 999
    assert MESH_CHECKPOINTS >= 1


def test_a_checkpoint_too_large_to_travel_is_left_where_it_is() -> None:
    """
    The one before it stays the last: others could not read its blob.
    """
    net = mesh("a")
    net.submit("a", "task")
    saved = Checkpoint(seq=3, route=ROLE, blob="digest")
    assert core_of(net, "a").on_progress(reached(saved)) == []


def test_a_result_is_marked_with_the_group_that_its_owner_knew() -> None:
    """
    So that one sees on which side of a split it was made.
    """
    net = mesh()
    net.split("ab", "c")
    net.run(2)
    net.submit("c", "lonely")
    net.submit("a", "pair")
    net.run(6)
    alone = core_of(net, "c").state.of("lonely").result
    pair = core_of(net, "a").state.of("pair").result
    assert alone is not None
    assert pair is not None
    assert (alone.partition_members, pair.partition_members) == (["c"], ["a", "b"])


def test_the_living_and_strangers_cannot_be_forgotten() -> None:
    """
    One sentence says why.
    """
    net = mesh()
    core = core_of(net, "a")
    for peer in ("a", "b", "zoe"):
        with pytest.raises(BadInputError) as refusal:
            core.on_forget(peer)
        assert peer in told_in_one_sentence(refusal.value)
    net.crash("c")
    net.run(2)
    net.carry_out(net.nodes["a"], core.on_forget("c"))
    net.run(1)
    assert all(each.state.peers == {"a", "b"} for each in net.cores)


def test_a_restarted_owner_goes_on_with_its_own_run() -> None:
    """
    Back before anybody missed it, it keeps the task and its epoch: the mission joins
    itself.
    """
    net = mesh()
    net.submit("a", "task")
    net.run(0.7)
    (owner,) = net.running("task")
    net.crash(owner)
    net.start(owner)
    net.run_until(lambda: net.all_finished(["task"]), 10)
    assert [run[1:4] for run in net.started_runs] == [(owner, "task", 1)] * 2
    assert not any(isinstance(each, StartRun) for each in core_of(net, owner).on_tick())
