"""
What must be seen before a peer owns anything.
"""

import random

from unit_fakes import Clock

from outlast.contracts.mesh_timing import (
    MESH_RETRY_S,
    MESH_SETTLE_S,
    MESH_UNRESPONSIVE_S,
)
from outlast.mesh.core.anti_entropy import AntiEntropy
from outlast.mesh.core.catch_up import CatchUp
from outlast.mesh.core.messages import Rebuild
from outlast.mesh.core.replicated_log import ReplicatedLog

HAS = {"b~log~1": 3}


def asked(*peers: str, number: int = 7) -> CatchUp:
    """
    One that began at 0 and has asked.
    """
    catching = CatchUp(number, 0.0)
    assert catching.peers_to_ask(peers, 0.0) == sorted(peers)
    return catching


def test_all_that_live_must_have_answered() -> None:
    """
    Not the first only, and what each had must be here.
    """
    catching = asked("b", "c")
    catching.answer("b", 7, HAS)
    assert not catching.done(HAS, {"b", "c"}, MESH_SETTLE_S)
    catching.answer("c", 7, {"c~log~1": 2})
    assert not catching.done(HAS, {"b", "c"}, MESH_SETTLE_S)
    assert catching.done({**HAS, "c~log~1": 2}, {"b", "c"}, MESH_SETTLE_S)


def test_an_answer_to_an_earlier_question_does_not_count() -> None:
    """
    It may have waited in a socket for as long as this peer was frozen.
    """
    catching = asked("b")
    catching.answer("b", 6, {})
    assert not catching.done({}, {"b"}, MESH_SETTLE_S)


def test_who_died_meanwhile_is_not_waited_for() -> None:
    """
    It cannot answer any more.
    """
    assert asked("b").done({}, set(), MESH_SETTLE_S)


def test_alone_it_looks_around_first() -> None:
    """
    The others may not have been seen yet.
    """
    catching = CatchUp(7, 0.0)
    assert not catching.done({}, set(), MESH_SETTLE_S / 2)
    assert catching.done({}, set(), MESH_SETTLE_S)


def test_who_does_not_answer_is_asked_again() -> None:
    """
    A question may be lost.
    """
    catching = asked("b", "c")
    catching.answer("c", 7, {})
    assert catching.peers_to_ask({"b", "c"}, MESH_RETRY_S / 2) == []
    assert catching.peers_to_ask({"b", "c"}, MESH_RETRY_S) == ["b"]


def test_one_that_stays_mute_does_not_stop_the_others() -> None:
    """
    It lives and speaks garbage: after a while the mesh works without its word.
    """
    catching = asked("b")
    assert not catching.done({}, {"b"}, MESH_UNRESPONSIVE_S - 0.1)
    assert catching.done({}, {"b"}, MESH_UNRESPONSIVE_S)


def test_it_knows_who_owes_it_something() -> None:
    """
    When a chunk is lost it is asked for again there, without waiting for a round.
    """
    catching = asked("b", "c")
    catching.answer("b", 7, HAS)
    catching.answer("c", 7, {})
    assert catching.incomplete({}) == ["b"]
    assert catching.incomplete(HAS) == []


def test_a_rebuild_whose_partner_is_gone_ends() -> None:
    """
    Else this peer would hold all its work until somebody compacted came back.
    """
    clock = Clock()
    gossip = AntiEntropy("a", 1, ReplicatedLog(), clock, random.Random(1))
    gossip.set_peers({"b"})
    gossip.start_catch_up()
    gossip.on_message(Rebuild(sender="b", incarnation=1))
    gossip.set_peers(set())
    clock.turn(MESH_UNRESPONSIVE_S - 0.1)
    gossip.tick()
    assert gossip.is_behind
    clock.turn(0.2)
    gossip.tick()
    assert not gossip.is_behind
