"""
Catching up: what a peer that starts or wakes must see before it owns anything.

It is done when everything that the live peers had, at the moment they were asked, is
here. Answers to earlier requests do not count: they may have waited in a socket for as
long as this peer was frozen.
"""

from collections.abc import Iterable
from math import inf

from outlast.contracts.mesh_timing import (
    MESH_RETRY_S,
    MESH_SETTLE_S,
    MESH_UNRESPONSIVE_S,
)
from outlast.mesh.core.replicated_log import (
    EventSpan,
    VersionVector,
    covers,
    merge_vectors,
)


class CatchUp:
    """
    One round of requests to other peers, begun at *now_s*; *number* tells its answers
    from earlier ones.
    """

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self._settled_s = now_s + MESH_SETTLE_S
        self._first_asked_s: dict[str, float] = {}
        self._last_asked_s: dict[str, float] = {}
        self._answers: dict[str, VersionVector] = {}

    def peers_to_ask(self, live: Iterable[str], now_s: float) -> list[str]:
        due = [
            peer
            for peer in sorted(live)
            if peer not in self._answers
            and now_s >= self._last_asked_s.get(peer, -inf) + MESH_RETRY_S
        ]
        for peer in due:
            self._first_asked_s.setdefault(peer, now_s)
            self._last_asked_s[peer] = now_s
        return due

    def answer(self, peer: str, number: int, heads: VersionVector) -> None:
        if number == self.number:
            self._answers[peer] = heads

    def incomplete(self, heads: VersionVector) -> list[str]:
        """
        Name the peers that have something which a peer with *heads* lacks.
        """
        return [
            peer
            for peer, answer in sorted(self._answers.items())
            if not covers(heads, answer)
        ]

    def done(self, heads: VersionVector, live: Iterable[str], now_s: float) -> bool:
        """
        Whether a peer with *heads* knows what all that *live* know.
        """
        if now_s < self._settled_s:
            return False
        return all(self._has_answered(peer, heads, now_s) for peer in live)

    def _has_answered(self, peer: str, heads: VersionVector, now_s: float) -> bool:
        answer = self._answers.get(peer)
        if answer is not None:
            return covers(heads, answer)
        # Alive and mute, or it sends garbage: the work of all must not wait for it.
        return now_s >= self._first_asked_s.get(peer, now_s) + MESH_UNRESPONSIVE_S


class RebuildProgress:
    """
    What has come so far of a log that was compacted past this peer's.
    """

    def __init__(self, now_s: float) -> None:
        self.heads: dict[str, int] = {}
        self._received_s = now_s

    def take(self, spans: Iterable[EventSpan], now_s: float) -> bool:
        """
        Note that *spans* have come; returns whether one lies past a gap.
        """
        self._received_s, gap = now_s, False
        for span in spans:
            if span.after <= self.heads.get(span.origin, 0):
                self.heads = merge_vectors(self.heads, {span.origin: span.up_to})
            else:
                gap = True
        return gap

    def is_abandoned(self, now_s: float) -> bool:
        """
        Whether the peer that served it is gone or mute: what has come must do.
        """
        return now_s > self._received_s + MESH_UNRESPONSIVE_S
