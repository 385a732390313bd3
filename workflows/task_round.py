"""
One round of a task: what its attempts are given, what people decide about it, and the
outcome that it comes to.
"""

from collections.abc import Sequence

from outlast.contracts.approvals import MAX_APPROVED_EFFECTS, Moment, WantedEffect
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.missions import Mission
from outlast.contracts.prior_run import TaskState
from outlast.contracts.reports import Outcome, TaskStatus, outcome_without_attempt
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Task
from outlast.workflows.approvals import ApprovalDecision
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.mission_context import MissionContext
from outlast.workflows.routes import Routes

# How a task ends that no route has answered; dead after anything else.
STATUS_WITHOUT_ANSWER = {
    Action.PARK: TaskStatus.PARKED,
    Action.SKIP: TaskStatus.SKIPPED,
    Action.REROUTE: TaskStatus.SKIPPED,
}


class TaskRound:
    """
    A round of *task* in flight, from where an earlier run of its mission left it.
    """

    def __init__(self, task: Task, context: MissionContext, state: TaskState) -> None:
        self.task = task
        self.context = context
        self.routes = Routes(_routes(task, context.mission), state.failed, state.route)
        # For this round only.
        redriven = context.redrive_checkpoints.pop(task.id, None)
        self.state = state.model_copy(
            update={"checkpoint": redriven or state.checkpoint}
        )
        self.waits = ""  # what for, for the status board

    async def approve_effects(self, wanting: FailureDecision) -> FailureDecision | None:
        """
        Ask a person about the effects that an attempt wants; returns how the route ends
        when they are not approved.
        """
        state = self.state
        if len(state.approved) + len(state.skipped) >= MAX_APPROVED_EFFECTS:
            why = f"it wants more than {MAX_APPROVED_EFFECTS} effects approved"
            return FailureDecision(Action.NEXT_ROUTE, why, attempts=wanting.attempts)
        wanted = wanting.wanted_effects
        decision = await self.request_approval("effect", wanting.cause, wanted)
        if not decision.approved:
            why = decision.reason
            return FailureDecision(Action.SKIP, why, attempts=wanting.attempts)
        skipped = [each.digest for each in wanted if decision.skips and each.recorded]
        approved = [each.digest for each in wanted if each.digest not in skipped]
        self.update(
            approved=[*state.approved, *approved], skipped=[*state.skipped, *skipped]
        )
        return None

    def restored_request(self) -> FailureDecision | None:
        asked = self.state.asked
        self.update(asked=None)
        if asked is None or asked.before != "effect":
            return None
        return FailureDecision(
            Action.REQUEST_APPROVAL, asked.description, wanted_effects=asked.effects
        )

    def attempt_input(self, route: str) -> AttemptInput:
        mission, plan, task = self.context.mission, self.context.plan, self.task
        return AttemptInput(
            mission=mission.id,
            tenant=mission.tenant,
            task=task,
            store=mission.store,
            round=plan.round(task.id),
            needs=plan.available_needs(task),
            policy=mission.crew[route].policy if route in mission.crew else Policy(),
            limits=mission.limits,
            last_route=self.routes.is_last(route),
            checkpoint=self.state.checkpoint,
            redo_reason=plan.reasons.get(task.id),
            scope=mission.logical,
            approved=self.state.approved,
            skipped=self.state.skipped,
        )

    async def request_approval(
        self, before: Moment, about: str, wanted: Sequence[WantedEffect] = ()
    ) -> ApprovalDecision:
        """
        Wait for a person's decision; the status board shows that meanwhile.
        """
        told = f"approval before its {before}"
        self.waits = f"{told}: {about}" if about else told
        try:
            decision = await self.context.approvals.request(
                self.task, before, about, wanted
            )
        finally:
            self.waits = ""
        self.update(approval=decision.reason)
        return decision

    def without_answer(self, last: FailureDecision | None) -> Outcome:
        """
        End a task that no route has answered: dead, unless it was parked, cancelled,
        without a live worker or out of budget.
        """
        reasons = self.routes.failure_reasons
        if last is None:
            return self.outcome(TaskStatus.SKIPPED, *reasons)
        if last.next is Action.BUDGET_EXHAUSTED:
            return self.budget_exhausted(*reasons)
        status = STATUS_WITHOUT_ANSWER.get(last.next, TaskStatus.DEAD)
        outcome = self.outcome(status, *reasons)
        return outcome.model_copy(update={"attempts": last.attempts})

    def budget_exhausted(self, *reasons: str) -> Outcome:
        outcome = self.outcome(TaskStatus.SKIPPED, *reasons)
        return outcome.model_copy(update={"budget_exhausted": True})

    def outcome(self, status: TaskStatus, *reasons: str) -> Outcome:
        told = {
            "route": self.routes.current,
            "round": self.context.plan.round(self.task.id),
            "approval": self.state.approval,
        }
        outcome = outcome_without_attempt(self.task, status, *reasons)
        return outcome.model_copy(update=told)

    def update(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)


def _routes(task: Task, mission: Mission) -> list[str]:
    if task.role == MISSION_ROLE:
        return [MISSION_ROLE]
    return mission.crew[task.role].routes
