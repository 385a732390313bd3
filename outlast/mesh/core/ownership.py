"""
Which peer is chosen for a task, and whose result stands.

Pure functions: peers with the same events decide the same without asking each other.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from outlast.contracts.ids import Name
from outlast.contracts.reports import MissionStatus
from outlast.contracts.wire import WireModel
from outlast.mesh.core.events import TaskFinished

# The better ending first.
ENDINGS = (
    MissionStatus.COMPLETED,
    MissionStatus.DEGRADED,
    MissionStatus.PARKED,
    MissionStatus.FAILED,
)


class LivePeer(WireModel):
    """
    A live peer as the membership shows it.

    :param ready: it has caught up with the others and may get new tasks.
    """

    name: Name
    roles: frozenset[Name] = frozenset()
    ready: bool = True

    def can_run(self, roles: Iterable[Iterable[str]]) -> bool:
        return all(self.roles.intersection(routes) for routes in roles)


class Adoption(NamedTuple):
    """
    Who owns a task; the epoch counts how often it was adopted.
    """

    epoch: int
    owner: Name


def rendezvous_hash(task: str, peer: str) -> bytes:
    return hashlib.sha256(f"{task}\0{peer}".encode()).digest()


def rendezvous_owner(task: str, peers: Iterable[str]) -> str | None:
    """
    Choose among *peers* by rendezvous hashing: a peer that leaves moves only its own
    tasks.
    """
    return max(peers, key=lambda peer: rendezvous_hash(task, peer), default=None)


def current_adoption(task: str, adoptions: Iterable[Adoption]) -> Adoption | None:
    """
    The adoption that counts: the highest epoch; of two of one epoch, which both sides
    of a split made, the one that rendezvous hashing prefers.
    """
    return max(
        adoptions,
        key=lambda each: (each.epoch, rendezvous_hash(task, each.owner)),
        default=None,
    )


def owner_of(
    task: str,
    roles: list[list[Name]],
    adopted: Adoption | None,
    live: Iterable[LivePeer],
) -> str | None:
    """
    Decide who runs *task* among the peers that *live*; None when nobody can.

    An owner stays the owner while it lives; a peer that returns takes nothing away.
    """
    able = [each for each in live if each.can_run(roles)]
    if adopted and any(each.name == adopted.owner for each in able):
        return adopted.owner
    return rendezvous_owner(task, (each.name for each in able if each.ready))


def result_order(finished: TaskFinished) -> tuple[int, int, int, str]:
    """
    Order the results of one task, the one that stands first: the better ending, then
    the larger group, then the earlier epoch; the text breaks what ties are left.
    """
    ending = (
        ENDINGS.index(finished.status) if finished.status in ENDINGS else len(ENDINGS)
    )
    group = len(set(finished.partition_members))
    return ending, -group, finished.epoch, finished.model_dump_json()


def winner(finishes: Iterable[TaskFinished]) -> TaskFinished | None:
    """
    The one result that stands; the others are kept as evidence.
    """
    found = list(finishes)
    # Nearly every task has one result, and the order writes out a whole report.
    return found[0] if len(found) == 1 else min(found, key=result_order, default=None)
