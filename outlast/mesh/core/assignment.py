"""
What a peer must run, by its log and by who lives: the one place that adopts.
"""

from collections.abc import Callable, Iterable

from outlast.contracts.policies import MESH_HEARD_S
from outlast.mesh.core.active_runs import Runs
from outlast.mesh.core.effects import Cancel, Run
from outlast.mesh.core.events import TaskAdopted
from outlast.mesh.core.local_log import Journal
from outlast.mesh.core.ownership import Presence, owner_of
from outlast.mesh.core.projection import Standing


class Duty:
    """
    The duty of the peer *name*. Only one that has caught up takes anything on.
    """

    def __init__(self, name: str, journal: Journal, now_s: Callable[[], float]) -> None:
        self.runs = Runs(name)
        self.live: dict[str, Presence] = {}  # this peer among them
        self._name = name
        self._journal = journal
        self._now_s = now_s
        self._heard_s: dict[str, float] = {}
        self._unsure: set[str] = set()  # tasks whose owner may be alive after all

    def hear(self, peer: str) -> None:
        """
        Note that *peer* has just said something.
        """
        self._heard_s[peer] = self._now_s()

    def settle_all(self) -> list[Run | Cancel]:
        """
        Decide on everything again, since other peers live or this one has caught up.
        """
        return self.settle(self._journal.view.open | self.runs.tasks)

    def settle_unsure(self) -> list[Run | Cancel]:
        """
        Decide on what had to wait because its owner had been heard.
        """
        unsure, self._unsure = self._unsure, set()
        return self.settle(unsure)

    def settle(self, tasks: Iterable[str]) -> list[Run | Cancel]:
        """
        Take on what is this peer's of *tasks*, and let go of what is not.
        """
        effects: list[Run | Cancel] = []
        ready = self.live[self._name].ready
        for task in sorted(tasks):
            standing = self._journal.view.of(task)
            if ready and standing.open and self._must_adopt(standing):
                self._journal.write(self._adoption(standing))
            effects += self.runs.settle(standing, ready)
        return effects

    def _must_adopt(self, standing: Standing) -> bool:
        assert standing.submission is not None
        adopted, roles = standing.adopted, standing.submission.roles
        owner = owner_of(standing.task, roles, adopted, self.live.values())
        if owner != self._name:
            return False
        if adopted and self._is_heard(adopted.owner):
            self._unsure.add(standing.task)
            return False
        return adopted is None or adopted.owner != owner

    def _is_heard(self, peer: str) -> bool:
        """
        Whether a peer that the membership does not show has spoken: when a split heals,
        words come first.
        """
        if peer in self.live or peer not in self._heard_s:
            return False
        return self._now_s() - self._heard_s[peer] < MESH_HEARD_S

    def _adoption(self, standing: Standing) -> TaskAdopted:
        adopted = standing.adopted
        epoch = adopted.epoch + 1 if adopted else 1
        return TaskAdopted(task=standing.task, epoch=epoch, owner=self._name)
