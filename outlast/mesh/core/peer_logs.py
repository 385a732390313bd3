"""
What the logs of the other peers hold, as far as this peer knows, and the submissions
that wait until enough of them hold it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from outlast.contracts.mesh_timing import MESH_ACK_S
from outlast.mesh.core.effects import AckSubmission
from outlast.mesh.core.events import Key
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


@dataclass(frozen=True)
class PendingAck:
    """
    A submission that was not acknowledged yet, and the *key* of its event.
    """

    task: str
    key: Key
    copies: int
    due_s: float


class PendingAcks:
    """
    Submissions that wait for as many copies as were asked for, at most MESH_ACK_S.
    """

    def __init__(self, peer_logs: PeerLogs) -> None:
        self._peer_logs = peer_logs
        self._pending: list[PendingAck] = []

    def add(self, task: str, key: Key, copies: int, now_s: float) -> None:
        self._pending.append(PendingAck(task, key, copies, now_s + MESH_ACK_S))

    def take_due(self, now_s: float) -> list[AckSubmission]:
        waiting, due = [], []
        for each in self._pending:
            copies = self._peer_logs.copies(*each.key)
            if copies >= each.copies or now_s >= each.due_s:
                due.append(AckSubmission(each.task, copies))
            else:
                waiting.append(each)
        self._pending = waiting
        return due
