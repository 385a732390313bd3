"""
Who runs a task, and whose result stands: pure functions, so that peers which know the
same decide the same without asking each other.

An owner stays the owner while it lives; a returning peer takes nothing away.
"""

import hashlib
from collections.abc import Iterable

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

    :param ready: it has caught up with the others, and may be given something new.
    """

    name: Name
    roles: frozenset[Name] = frozenset()
    ready: bool = True

    def can_run(self, roles: Iterable[Iterable[str]]) -> bool:
        """
        Say whether of each list in *roles* it plays one.
        """
        return all(self.roles.intersection(routes) for routes in roles)


class Adoption(WireModel):
    """
    Who owns a task, and for the how-many-th time it was taken.
    """

    epoch: int
    owner: Name


def rendezvous_hash(task: str, peer: str) -> bytes:
    """
    Draw the lot of *peer* for *task*: the same everywhere, and fair over many tasks.
    """
    return hashlib.sha256(f"{task}\0{peer}".encode()).digest()


def rendezvous_owner(task: str, peers: Iterable[str]) -> str | None:
    """
    Choose among *peers* by rendezvous hashing: who leaves moves its own tasks only.
    """
    return max(peers, key=lambda peer: rendezvous_hash(task, peer), default=None)


def current_adoption(task: str, adoptions: Iterable[Adoption]) -> Adoption | None:
    """
    The adoption that counts: the highest epoch, and of two that took it apart from each
    other the favourite.
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
    """
    able = [each for each in live if each.can_run(roles)]
    if adopted and any(each.name == adopted.owner for each in able):
        return adopted.owner
    return rendezvous_owner(task, (each.name for each in able if each.ready))


def result_order(finished: TaskFinished) -> tuple[int, int, int, str]:
    """
    Order the results of one task, the one that stands first: the better ending, then
    the larger group, then the earlier epoch; the rest only makes it certain.
    """
    ending = (
        ENDINGS.index(finished.status) if finished.status in ENDINGS else len(ENDINGS)
    )
    group = len(set(finished.partition_members))
    return ending, -group, finished.epoch, finished.model_dump_json()


def winner(finishes: Iterable[TaskFinished]) -> TaskFinished | None:
    """
    The one standing result; the others are evidence of what else was done.
    """
    found = list(finishes)
    # Of nearly every task there is one, and ranking writes out a whole report.
    return found[0] if len(found) == 1 else min(found, key=result_order, default=None)
