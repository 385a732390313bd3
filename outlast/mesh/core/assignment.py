"""
What a peer must run, by its log and by who lives: the one place that adopts.
"""

from collections.abc import Callable, Iterable

from outlast.contracts.mesh_timing import MESH_RECENT_S
from outlast.mesh.core.active_runs import ActiveRuns
from outlast.mesh.core.effects import CancelRun, StartRun
from outlast.mesh.core.events import TaskAdopted
from outlast.mesh.core.local_log import LocalLog
from outlast.mesh.core.ownership import LivePeer, owner_of
from outlast.mesh.core.projection import MeshTask


class TaskAssigner:
    """
    The duty of the peer *name*. Only one that has caught up takes anything on.
    """

    def __init__(
        self, name: str, journal: LocalLog, now_s: Callable[[], float]
    ) -> None:
        self.runs = ActiveRuns(name)
        self.live: dict[str, LivePeer] = {}  # this peer among them
        self._name = name
        self._local_log = journal
        self._now_s = now_s
        self._contact_s: dict[str, float] = {}
        self._owner_uncertain: set[str] = (
            set()
        )  # tasks whose owner may be alive after all

    def note_contact(self, peer: str) -> None:
        """
        Note that *peer* has just said something.
        """
        self._contact_s[peer] = self._now_s()

    def assign_all(self) -> list[StartRun | CancelRun]:
        """
        Decide on everything again, since other peers live or this one has caught up.
        """
        return self.assign(self._local_log.state.open | self.runs.tasks)

    def assign_uncertain(self) -> list[StartRun | CancelRun]:
        """
        Decide on what had to wait because its owner had been heard.
        """
        unsure, self._owner_uncertain = self._owner_uncertain, set()
        return self.assign(unsure)

    def assign(self, tasks: Iterable[str]) -> list[StartRun | CancelRun]:
        """
        Take on what is this peer's of *tasks*, and let go of what is not.
        """
        effects: list[StartRun | CancelRun] = []
        ready = self.live[self._name].ready
        for task in sorted(tasks):
            mesh_task = self._local_log.state.of(task)
            if ready and mesh_task.open and self._must_adopt(mesh_task):
                self._local_log.write(self._adoption(mesh_task))
            effects += self.runs.reconcile(mesh_task, ready)
        return effects

    def _must_adopt(self, mesh_task: MeshTask) -> bool:
        assert mesh_task.submission is not None
        adopted, roles = mesh_task.adopted, mesh_task.submission.roles
        owner = owner_of(mesh_task.task, roles, adopted, self.live.values())
        if owner != self._name:
            return False
        if adopted and self._is_recent(adopted.owner):
            self._owner_uncertain.add(mesh_task.task)
            return False
        return adopted is None or adopted.owner != owner

    def _is_recent(self, peer: str) -> bool:
        """
        Whether a peer that the membership does not show has spoken: when a split heals,
        words come first.
        """
        if peer in self.live or peer not in self._contact_s:
            return False
        return self._now_s() - self._contact_s[peer] < MESH_RECENT_S

    def _adoption(self, mesh_task: MeshTask) -> TaskAdopted:
        adopted = mesh_task.adopted
        epoch = adopted.epoch + 1 if adopted else 1
        return TaskAdopted(task=mesh_task.task, epoch=epoch, owner=self._name)
