"""
What a peer does besides work: it joins, forgets peers that are lost, compacts the log.

Compaction folds what every peer has; what that fold does not need, no later fold needs
either. A peer that was forgotten meanwhile lacks something that is gone, and rebuilds
its log.
"""

from collections.abc import Callable, Iterable

from outlast.contracts.mesh_timing import MESH_COMPACT_S, MESH_FORGET_S, MESH_KEEP_S
from outlast.mesh.core.anti_entropy import AntiEntropy
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    Key,
    MeshEvent,
    PeerForgotten,
    PeerJoined,
    SubtaskFinished,
    TaskAdopted,
)
from outlast.mesh.core.local_log import LocalLog
from outlast.mesh.core.ownership import rendezvous_owner
from outlast.mesh.core.projection import MeshState, MeshTask
from outlast.mesh.core.replicated_log import LogChange, VersionVector, intersect


class Housekeeping:
    """
    The chores of the peer *name*, which only a peer that has caught up does.
    """

    def __init__(
        self,
        name: str,
        log: LocalLog,
        anti_entropy: AntiEntropy,
        wall_s: Callable[[], float],
    ) -> None:
        self._name = name
        self._log = log
        self._anti_entropy = anti_entropy
        self._wall_s = wall_s
        self._seen_s: dict[str, float] = {}
        self._compact_s: float | None = None

    def memberships(
        self, live: Iterable[str], now_s: float
    ) -> list[PeerJoined | PeerForgotten]:
        """
        Join, if this peer is new or was forgotten, and forget the peers that none of
        those alive has seen for MESH_FORGET_S; one of the living does that for all.
        """
        state, names = self._log.state, {*live, self._name}
        facts: list[PeerJoined | PeerForgotten] = []
        if self._name not in state.peers:
            count = state.join_count(self._name) + 1
            facts.append(PeerJoined(peer=self._name, join_count=count))
        self._seen_s.update(dict.fromkeys(names, now_s))
        for peer in sorted(state.peers - names):
            away_s = now_s - self._seen_s.setdefault(peer, now_s)
            if away_s > MESH_FORGET_S and rendezvous_owner(peer, names) == self._name:
                facts.append(self.forget(peer))
        return facts

    def forget(self, peer: str) -> PeerForgotten:
        return PeerForgotten(peer=peer, join_count=self._log.state.join_count(peer))

    def compact(self, now_s: float) -> LogChange:
        """
        Every MESH_COMPACT_S drop from the log what all peers of the mesh have passed.
        """
        due_s = self._compact_s
        if due_s is None or now_s >= due_s:
            self._compact_s = now_s + MESH_COMPACT_S
        if due_s is None or now_s < due_s:
            return LogChange()
        others = (self._log.state.peers | self._anti_entropy.live) - {self._name}
        log = self._log.log
        known = [self._anti_entropy.peer_logs.of(peer) for peer in sorted(others)]
        return log.drop(compactable(log, [log.high_water, *known], self._wall_s()))


def compactable(
    log: Iterable[MeshEvent], known: Iterable[VersionVector], now_s: float
) -> list[Key]:
    """
    List the events of *log* that peers which all have *known* can do without.

    :param now_s: by the wall clock; it decides only how long finished tasks are kept.
    """
    shared = intersect(known)
    stable = [each for each in log if each.seq <= shared.get(each.origin, 0)]
    state = MeshState(stable)
    return [each.key for each in stable if _is_compactable(each.fact, state, now_s)]


def _is_compactable(fact: AnyFact | None, state: MeshState, now_s: float) -> bool:
    if fact is None or isinstance(fact, PeerJoined | PeerForgotten):
        return False
    task = state.of(fact.task)
    expired = not task.open and now_s - task.newest_s > MESH_KEEP_S
    return expired or _is_superseded(fact, task)


def _is_superseded(fact: AnyFact, task: MeshTask) -> bool:
    done = task.result is not None
    match fact:
        case CheckpointSaved():
            return done or task.subtasks.get(fact.subtask) is not fact
        case SubtaskFinished():
            return task.subtasks.get(fact.subtask) is not fact
        case TaskAdopted():
            return done
        case _:
            return False
