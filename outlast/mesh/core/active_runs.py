"""
The runs that a peer has in hand: which to start, to hold, to go on with, to cancel.
"""

from dataclasses import dataclass

from outlast.mesh.core.effects import CancelRun, StartRun, SuspendRun
from outlast.mesh.core.projection import MeshState, MeshTask


@dataclass
class ActiveRun:
    """
    One run on this peer's endpoint. A *held* one waits for a word whose it is.
    """

    epoch: int
    suspended: bool


class ActiveRuns:
    """
    The runs of the peer *me*, at most one a task.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._runs: dict[str, ActiveRun] = {}

    @property
    def tasks(self) -> set[str]:
        """
        The tasks of these runs.
        """
        return set(self._runs)

    def __contains__(self, run: tuple[str, int]) -> bool:
        task, epoch = run
        found = self._runs.get(task)
        return found is not None and found.epoch == epoch

    def restore(self, view: MeshState) -> list[SuspendRun]:
        """
        Hold what earlier lives of this peer took on: its endpoint may still run it.
        """
        for task, mesh_task in view.tasks.items():
            adopted = {
                epoch for epoch, owner in mesh_task.adoptions if owner == self._me
            }
            ended = {
                each.epoch
                for each in mesh_task.finishes.values()
                if each.owner == self._me
            }
            if adopted and max(adopted) not in ended:
                self._runs[task] = ActiveRun(max(adopted), suspended=False)
        return self.suspend()

    def suspend(self) -> list[SuspendRun]:
        """
        Hold all that is not held.
        """
        going = {task: run for task, run in self._runs.items() if not run.suspended}
        for run in going.values():
            run.suspended = True
        return [SuspendRun(task, run.epoch) for task, run in going.items()]

    def end(self, task: str, epoch: int) -> bool:
        """
        Let go of a run that has ended by itself; says whether it was in hand.
        """
        if (task, epoch) not in self:
            return False
        del self._runs[task]
        return True

    def reconcile(self, mesh_task: MeshTask, ready: bool) -> list[StartRun | CancelRun]:
        """
        Follow what the log says of one task; only a *ready* peer begins or resumes.
        """
        adopted = mesh_task.adopted
        mine = mesh_task.open and adopted is not None and adopted.owner == self._me
        effects: list[StartRun | CancelRun] = []
        run = self._runs.get(mesh_task.task)
        if run and not (mine and adopted and adopted.epoch == run.epoch):
            del self._runs[mesh_task.task]
            by = adopted if mesh_task.open else None
            effects.append(CancelRun(mesh_task.task, run.epoch, by))
            run = None
        if ready and mine and adopted and (run is None or run.suspended):
            self._runs[mesh_task.task] = ActiveRun(adopted.epoch, suspended=False)
            effects.append(self._run(mesh_task, adopted.epoch))
        return effects

    def _run(self, mesh_task: MeshTask, epoch: int) -> StartRun:
        assert mesh_task.submission is not None
        mission = mesh_task.submission.mission
        return StartRun(mesh_task.task, epoch, mission, dict(mesh_task.subtasks))
