"""
What a peer does besides work: it is of the mesh, forgets who is lost, compacts the log.
"""

from collections.abc import Callable, Iterable

from outlast.contracts.mesh_timing import MESH_COMPACT_S, MESH_FORGET_S
from outlast.mesh.core.anti_entropy import AntiEntropy
from outlast.mesh.core.compaction import compactable
from outlast.mesh.core.events import PeerForgotten, PeerJoined
from outlast.mesh.core.local_log import LocalLog
from outlast.mesh.core.ownership import rendezvous_owner
from outlast.mesh.core.replicated_log import LogChange


class Housekeeping:
    """
    The chores of the peer *name*, which only a peer that has caught up does.
    """

    def __init__(
        self,
        name: str,
        journal: LocalLog,
        gossip: AntiEntropy,
        wall_s: Callable[[], float],
    ) -> None:
        self._name = name
        self._local_log = journal
        self._anti_entropy = gossip
        self._wall_s = wall_s
        self._seen_s: dict[str, float] = {}
        self._compact_s: float | None = None

    def memberships(
        self, live: Iterable[str], now_s: float
    ) -> list[PeerJoined | PeerForgotten]:
        """
        Join, if this peer is new or was forgotten, and forget whom nobody that is alive
        has seen for a day; one of the living says so for all.
        """
        view, names = self._local_log.state, {*live, self._name}
        facts: list[PeerJoined | PeerForgotten] = []
        if self._name not in view.peers:
            nth = view.joined(self._name) + 1
            facts.append(PeerJoined(peer=self._name, join_count=nth))
        self._seen_s.update(dict.fromkeys(names, now_s))
        for peer in sorted(view.peers - names):
            away_s = now_s - self._seen_s.setdefault(peer, now_s)
            if away_s > MESH_FORGET_S and rendezvous_owner(peer, names) == self._name:
                facts.append(self.forget(peer))
        return facts

    def forget(self, peer: str) -> PeerForgotten:
        """
        Say that nobody waits for *peer* any more.
        """
        return PeerForgotten(peer=peer, join_count=self._local_log.state.joined(peer))

    def compact(self, now_s: float) -> LogChange:
        """
        Drop from the log, once in a while, what all that are of the mesh have passed.
        """
        if self._compact_s is None:
            self._compact_s = now_s + MESH_COMPACT_S
        if now_s < self._compact_s:
            return LogChange()
        self._compact_s = now_s + MESH_COMPACT_S
        others = (self._local_log.state.peers | self._anti_entropy.live) - {self._name}
        log = self._local_log.log
        known = [self._anti_entropy.known.get(peer, {}) for peer in sorted(others)]
        return log.drop(compactable(log, [log.high_water, *known], self._wall_s()))
