"""
The runs that a peer has in hand: which to start, to hold, to go on with, to cancel.
"""

from dataclasses import dataclass

from outlast.mesh.core.effects import Cancel, Hold, Run
from outlast.mesh.core.projection import Standing, View


@dataclass
class InHand:
    """
    One run on this peer's endpoint. A *held* one waits for a word whose it is.
    """

    epoch: int
    held: bool


class Runs:
    """
    The runs of the peer *me*, at most one a task.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._in_hand: dict[str, InHand] = {}

    @property
    def tasks(self) -> set[str]:
        """
        The tasks of these runs.
        """
        return set(self._in_hand)

    def __contains__(self, run: tuple[str, int]) -> bool:
        task, epoch = run
        found = self._in_hand.get(task)
        return found is not None and found.epoch == epoch

    def remember(self, view: View) -> list[Hold]:
        """
        Hold what earlier lives of this peer took on: its endpoint may still run it.
        """
        for task, standing in view.tasks.items():
            adopted = {
                epoch for epoch, owner in standing.adoptions if owner == self._me
            }
            ended = {
                each.epoch
                for each in standing.finishes.values()
                if each.owner == self._me
            }
            if adopted and max(adopted) not in ended:
                self._in_hand[task] = InHand(max(adopted), held=False)
        return self.hold()

    def hold(self) -> list[Hold]:
        """
        Hold all that is not held.
        """
        going = {task: run for task, run in self._in_hand.items() if not run.held}
        for run in going.values():
            run.held = True
        return [Hold(task, run.epoch) for task, run in going.items()]

    def ended(self, task: str, epoch: int) -> bool:
        """
        Let go of a run that has ended by itself; says whether it was in hand.
        """
        if (task, epoch) not in self:
            return False
        del self._in_hand[task]
        return True

    def settle(self, standing: Standing, ready: bool) -> list[Run | Cancel]:
        """
        Follow what the log says of one task; only a *ready* peer begins or resumes.
        """
        adopted = standing.adopted
        mine = standing.open and adopted is not None and adopted.owner == self._me
        effects: list[Run | Cancel] = []
        run = self._in_hand.get(standing.task)
        if run and not (mine and adopted and adopted.epoch == run.epoch):
            del self._in_hand[standing.task]
            by = adopted if standing.open else None
            effects.append(Cancel(standing.task, run.epoch, by))
            run = None
        if ready and mine and adopted and (run is None or run.held):
            self._in_hand[standing.task] = InHand(adopted.epoch, held=False)
            effects.append(self._run(standing, adopted.epoch))
        return effects

    def _run(self, standing: Standing, epoch: int) -> Run:
        assert standing.submission is not None
        mission = standing.submission.mission
        return Run(standing.task, epoch, mission, dict(standing.parts))
