"""
What the tasks of a mission have in common.
"""

from collections.abc import Callable

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.missions import Mission
from outlast.contracts.plan import Plan
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.results import ResultRef
from outlast.workflows.approvals import Approvals
from outlast.workflows.bookkeeping import recorded_answer
from outlast.workflows.children import ChildRuns
from outlast.workflows.dispatch import DispatchNumbers
from outlast.workflows.entry import without_tasks
from outlast.workflows.renewal import Renewal


class MissionContext:
    """
    One mission, from where an earlier run of its workflow left it.

    :param publish: redraws the status board.
    """

    def __init__(self, mission: Mission, publish: Callable[[], None]) -> None:
        past = mission.prior_run or PriorRun(outcomes=[])
        self.mission = mission
        self.plan = Plan(without_tasks(mission.id))  # until it is loaded
        self.publish = publish
        self.approvals = Approvals(publish, _deadlines(past))
        self.numbers = DispatchNumbers(past.dispatches)
        self.renewal = Renewal()
        self.children = ChildRuns(self.renewal)
        # Checkpoints from which redriven tasks continue.
        self.redrive_checkpoints: dict[str, Checkpoint] = {}
        self.paused = past.paused
        self.stopped: str | None = None  # why
        self.cancelled = False

    def load(self, mission: Mission) -> None:
        """
        Make the plan of *mission*, and restore what an earlier run left.

        :raises BadInputError: when the plan is invalid.
        """
        self.mission = mission
        self.plan = Plan(mission)
        past = mission.prior_run
        if past is not None:
            self.plan.restore(past)
            self.redrive_checkpoints.update(past.checkpoints)
            if past.redrive is not None:
                self.redrive_checkpoints.update(past.redrive.checkpoints)

    async def recorded_answer(self, task: str) -> ResultRef | None:
        with self.renewal.busy():
            return await recorded_answer(self.mission.id, task, self.plan.round(task))


def _deadlines(past: PriorRun) -> dict[str, float]:
    return {
        name: state.asked_until
        for name, state in past.tasks_in_flight.items()
        if state.asked_until is not None
    }
