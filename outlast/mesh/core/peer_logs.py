"""
What the logs of the other peers hold, as far as this peer knows.
"""

from collections.abc import Iterable

from outlast.mesh.core.replicated_log import VersionVector, merge_vectors


class PeerLogs:
    """
    The version vector of each peer's log, also of peers that are away.
    """

    def __init__(self) -> None:
        self._heads: dict[str, dict[str, int]] = {}
        self._incarnations: dict[str, int] = {}

    def of(self, peer: str) -> dict[str, int]:
        return self._heads.get(peer, {})

    def note(self, peer: str, heads: VersionVector) -> None:
        self._heads[peer] = merge_vectors(self.of(peer), heads)

    def copies(self, origin: str, seq: int) -> int:
        """
        Count the peers, with this one, that have an event.
        """
        return 1 + sum(has.get(origin, 0) >= seq for has in self._heads.values())

    def note_incarnation(self, peer: str, incarnation: int) -> bool:
        """
        Note which life of *peer* speaks; False for an earlier one than the last. A new
        life may have lost what the one before had.
        """
        last = self._incarnations.get(peer)
        if last is not None and incarnation < last:
            return False
        if incarnation != last:
            self._incarnations[peer] = incarnation
            self._heads[peer] = {}
        return True

    def keep_incarnations(self, live: Iterable[str]) -> None:
        """
        Forget which life of a peer that is not *live* has spoken: if it returns, it may
        have lost what it had, and the next message counts as that of a new life.
        """
        live = set(live)
        self._incarnations = {
            peer: each for peer, each in self._incarnations.items() if peer in live
        }
