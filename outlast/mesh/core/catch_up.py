"""
Catching up: what a peer that starts or wakes must see before it owns anything.

It is done when everything that the live peers had, at the moment they were asked, is
here. Answers to earlier requests do not count: they may have waited in a socket for as
long as this peer was frozen.
"""

from collections.abc import Iterable

from outlast.contracts.mesh_timing import (
    MESH_RETRY_S,
    MESH_SETTLE_S,
    MESH_UNRESPONSIVE_S,
)
from outlast.mesh.core.replicated_log import VersionVector, covers


class CatchUp:
    """
    One look around, begun at *now_s*; *number* tells its answers from earlier ones.
    """

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self._settled_s = now_s + MESH_SETTLE_S
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._answers: dict[str, VersionVector] = {}

    def peers_to_ask(self, live: Iterable[str], now_s: float) -> list[str]:
        """
        Name the peers that must be asked now, for the first time or again.
        """
        due = [
            peer
            for peer in sorted(live)
            if peer not in self._answers
            and now_s >= self._last.get(peer, now_s - MESH_RETRY_S) + MESH_RETRY_S
        ]
        for peer in due:
            self._first.setdefault(peer, now_s)
            self._last[peer] = now_s
        return due

    def answer(self, peer: str, number: int, heads: VersionVector) -> None:
        """
        Note what *peer* says that it has.
        """
        if number == self.number:
            self._answers[peer] = heads

    def incomplete(self, heads: VersionVector) -> list[str]:
        """
        Name the peers that have something which who has *heads* lacks.
        """
        return [
            peer
            for peer, answer in sorted(self._answers.items())
            if not covers(heads, answer)
        ]

    def done(self, heads: VersionVector, live: Iterable[str], now_s: float) -> bool:
        """
        Say whether who has *heads* knows what all that *live* know.
        """
        if now_s < self._settled_s:
            return False
        return all(self._has_answered(peer, heads, now_s) for peer in live)

    def _has_answered(self, peer: str, heads: VersionVector, now_s: float) -> bool:
        answer = self._answers.get(peer)
        if answer is not None:
            return covers(heads, answer)
        # Alive and mute, or it speaks garbage: the work of all must not wait for it.
        return now_s >= self._first.get(peer, now_s) + MESH_UNRESPONSIVE_S
