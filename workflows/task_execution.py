"""
One task from its approval, over its routes, to its outcome.

Nothing here ends the mission: whatever happens becomes the task's own outcome.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, TerminatedError

from outlast.contracts.approvals import MAX_APPROVED_EFFECTS, Moment, WantedEffect
from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.plan import WITH_RESULT, Plan, outcome_without_attempt
from outlast.contracts.prior_run import TaskState
from outlast.contracts.reports import Outcome, RunningTask, TaskStatus
from outlast.contracts.results import RedoRequest, ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.updates import UnservedTasks
from outlast.workflows.approvals import ApprovalDecision, Approvals
from outlast.workflows.bookkeeping import recorded_answer
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.child_mission import (
    TASK_STATUS_BY_MISSION_STATUS,
    run_child_mission,
)
from outlast.workflows.children import ChildRuns
from outlast.workflows.dispatch import DispatchNumbers
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.fan_out import run_fan_out
from outlast.workflows.renewal import Renewal
from outlast.workflows.routes import Routes, no_live_worker
from outlast.workflows.task_dispatch import TaskDispatch


@dataclass(frozen=True)
class MissionContext:
    """
    What the tasks of a mission have in common.

    :param stopped: returns why the mission has been stopped, or None while it runs.
    :param numbers: numbers its dispatches.
    :param children: missions and batches within it.
    :param renewal: of the run that executes all this.
    :param redrive_checkpoints: checkpoints from which redriven tasks continue.
    :param publish: redraws the status board.
    """

    mission: Mission
    plan: Plan
    approvals: Approvals
    numbers: DispatchNumbers
    children: ChildRuns
    renewal: Renewal
    stopped: Callable[[], str | None]
    redrive_checkpoints: dict[str, Checkpoint]
    publish: Callable[[], None]


class RerouteAction(Enum):
    """
    What a report of unserved tasks means for one task.
    """

    KEEP = auto()
    MOVE = auto()  # to a route with a live worker
    WAIT = auto()  # until a route has a live worker
    RESUME = auto()  # a route it waited for has a live worker again
    SKIP = auto()  # it is optional: the mission continues without it


class TaskExecution:
    """
    One round of *task*, in flight.

    :param state: where an earlier run of its mission left it.
    """

    def __init__(
        self, task: Task, ground: MissionContext, state: TaskState | None = None
    ) -> None:
        state = state or TaskState()
        self.task = task
        self.redo_request: RedoRequest | None = None
        self._context = ground
        self._routes = Routes(_routes(task, ground.mission), state.failed, state.route)
        self._dispatch: TaskDispatch | None = None
        # For this round only.
        self._redrive_checkpoint = (
            ground.redrive_checkpoints.pop(task.id, None) or state.checkpoint
        )
        self._resumed = state.dispatch
        self._requested = state.asked
        self._answer = state.answer
        self._started_at = state.began
        self._until = state.until
        self._degradation: list[str] = []
        self._waits = ""
        self._approval = state.approval
        self._approved = [*state.approved]  # effects, by digest
        self._skipped = [*state.skipped]

    @property
    def running(self) -> RunningTask:
        """
        Where the task is, for the status board.
        """
        return RunningTask(
            id=self.task.id,
            role=self.task.role,
            route=self._routes.current,
            waiting_for=self._waits or (self._dispatch.waits if self._dispatch else ""),
        )

    @property
    def state(self) -> TaskState:
        """
        The state of the task, for the next run of its mission.
        """
        approvals, dispatch = self._context.approvals, self._dispatch
        return TaskState(
            failed=self._routes.failed,
            route=self._routes.current,
            began=self._started_at,
            approval=self._approval,
            approved=self._approved,
            skipped=self._skipped,
            until=self._until,
            asked=approvals.pending.get(self.task.id),
            asked_until=approvals.until.get(self.task.id),
            answer=self._answer,
            checkpoint=self._redrive_checkpoint,
            dispatch=dispatch.state if dispatch else self._resumed,
        )

    def hand_back(self) -> None:
        """
        Hand its attempt back to the next run.
        """
        if self._dispatch is not None:
            self._dispatch.hand_back()

    async def run(self) -> Outcome:
        """
        Run the task to its end, whatever that is, within its time budget.
        """
        limit_s = self.task.budget.time_s
        if limit_s is not None and self._until is None:
            self._until = workflow.time() + limit_s
        left_s = (
            None if self._until is None else max(0.0, self._until - workflow.time())
        )
        try:
            async with asyncio.timeout(left_s) as clock:
                outcome = await self._execute()
        except TimeoutError:
            return await self._timed_out()
        if clock.expired() and outcome.status not in WITH_RESULT:
            return await self._timed_out()
        return outcome

    async def _timed_out(self) -> Outcome:
        """
        End a task whose time is spent, unless the ledger has its answer after all.
        """
        mission, task = self._context.mission.id, self.task.id
        with self._context.renewal.busy():
            answer = await recorded_answer(
                mission, task, self._context.plan.round(task)
            )
        if answer is not None and answer.fan_out is None:
            return await self._on_answer(answer)
        return self._budget_exhausted(f"its {self.task.budget.time_s:g} s are spent")

    def reroute_action(self, unserved: UnservedTasks) -> RerouteAction:
        """
        Decide what *unserved* means for this task.
        """
        dispatch = self._dispatch
        if dispatch is None or dispatch.activity_id not in unserved.activity_ids:
            return (
                RerouteAction.RESUME
                if self._waits == self._no_live_worker
                else RerouteAction.KEEP
            )
        if self._routes.next(unserved.served_roles) is not None:
            return RerouteAction.MOVE
        # Without any served role the whole fleet is away: wait for it.
        if not self.task.required and unserved.served_roles:
            return RerouteAction.SKIP
        return RerouteAction.KEEP if self._waits else RerouteAction.WAIT

    def apply_reroute(self, unserved: UnservedTasks) -> None:
        """
        Apply what `reroute_action` decides.
        """
        turn = self.reroute_action(unserved)
        if (
            turn in (RerouteAction.MOVE, RerouteAction.SKIP)
            and self._dispatch is not None
        ):
            self._routes.mark_unserved(unserved.served_roles)
            self._dispatch.withdraw()
        elif turn is RerouteAction.WAIT:
            self._waits = self._no_live_worker
        elif turn is RerouteAction.RESUME:
            self._waits = ""

    @property
    def _no_live_worker(self) -> str:
        return no_live_worker(self._routes.current)

    async def _execute(self) -> Outcome:
        if self._answer is not None:
            return await self._on_answer(self._answer)
        approval = self.task.approval
        asks = (
            approval is not None and approval.before == "start" and not self._started_at
        )
        # If it finished in an earlier run, it was approved there.
        if asks and not await self._is_recorded():
            said = await self._request_approval("start", "")
            if not said.approved:
                return self._outcome(TaskStatus.SKIPPED, said.reason)
        self._started_at = True
        if self.task.role == MISSION_ROLE:
            return await self._run_child_mission()
        return await self._try_routes()

    async def _is_recorded(self) -> bool:
        """
        Ask the ledger whether this round of the task has an answer.
        """
        mission, task = self._context.mission.id, self.task.id
        with self._context.renewal.busy():
            answer = await recorded_answer(
                mission, task, self._context.plan.round(task)
            )
        raise_if_cancelling()
        return answer is not None

    async def _run_child_mission(self) -> Outcome:
        """
        Run the task as a child mission.
        """
        parent, assignment = self._context.mission, self._attempt_input(MISSION_ROLE)
        try:
            children, numbers = self._context.children, self._context.numbers
            report = await run_child_mission(assignment, parent, children, numbers)
        except (ActivityError, ChildWorkflowError) as error:
            if stopped := self._context.stopped():
                return self._outcome(TaskStatus.SKIPPED, stopped)
            return self._outcome(TaskStatus.DEAD, f"its mission: {_cause(error)}")
        status = TASK_STATUS_BY_MISSION_STATUS[report.status]
        told = [f"its mission {report.mission} is {report.status}", *report.degraded]
        return self._outcome(status, *([] if status is TaskStatus.DONE else told))

    async def _try_routes(self) -> Outcome:
        """
        Try the task on each of its routes until one of them answers.
        """
        last: FailureDecision | None = None
        while (route := self._routes.next()) is not None:
            self._switch_route(route)
            ended = await self._dispatch_until_approved(route)
            if isinstance(ended, ResultRef):
                return await self._on_answer(ended)
            last = ended
            if stopped := self._context.stopped():
                # Whatever the attempt raised while it was being cancelled, the mission
                # ended it.
                return self._outcome(TaskStatus.SKIPPED, stopped)
            if last.next is Action.REROUTE:
                continue
            self._routes.fail(last.cause)
            if last.next not in (Action.NEXT_ROUTE, Action.BUDGET_EXHAUSTED):
                break
        return self._without_answer(last)

    def _switch_route(self, route: str) -> None:
        moved = route != self._routes.current or self._waits
        self._routes.current, self._waits = route, ""
        if moved:
            self._context.publish()

    async def _dispatch_until_approved(self, route: str) -> ResultRef | FailureDecision:
        """
        Dispatch the task on *route*, and again after each approval of its effects.
        """
        ground = self._context
        self._dispatch = TaskDispatch(
            self._attempt_input(route),
            route,
            ground.numbers,
            ground.stopped,
            ground.renewal,
            ground.mission.heartbeat_timeout_s,
        )
        resumed, self._resumed = self._resumed, None
        if resumed is not None and resumed.route == route:
            self._dispatch.state = resumed
        while True:
            ended = self._restored_request() or await self._dispatch.run()
            if (
                isinstance(ended, ResultRef)
                or ended.next is not Action.REQUEST_APPROVAL
            ):
                return ended
            if len(self._approved) + len(self._skipped) >= MAX_APPROVED_EFFECTS:
                why = f"it wants more than {MAX_APPROVED_EFFECTS} effects approved"
                return FailureDecision(Action.NEXT_ROUTE, why, attempts=ended.attempts)
            said = await self._request_approval(
                "effect", ended.cause, ended.wanted_effects
            )
            if not said.approved:
                return FailureDecision(
                    Action.SKIP, said.reason, attempts=ended.attempts
                )
            for each in ended.wanted_effects:
                skips = said.skips and each.recorded
                (self._skipped if skips else self._approved).append(each.digest)
            self._dispatch.approve(self._approved, self._skipped)

    def _restored_request(self) -> FailureDecision | None:
        """
        Continue with the approval request of an earlier run.
        """
        asked, self._requested = self._requested, None
        if asked is None or asked.before != "effect":
            return None
        return FailureDecision(
            Action.REQUEST_APPROVAL, asked.description, wanted_effects=asked.effects
        )

    def _attempt_input(self, route: str) -> AttemptInput:
        mission, plan, task = self._context.mission, self._context.plan, self.task
        return AttemptInput(
            mission=mission.id,
            tenant=mission.tenant,
            task=task,
            store=mission.store,
            round=plan.round(task.id),
            needs=plan.available_needs(task),
            policy=mission.crew[route].policy if route in mission.crew else Policy(),
            limits=mission.limits,
            checkpoint=self._redrive_checkpoint,
            redo_reason=plan.reasons.get(task.id),
            scope=mission.logical,
            approved=self._approved,
            skipped=self._skipped,
        )

    async def _request_approval(
        self, before: Moment, about: str, wanted: Sequence[WantedEffect] = ()
    ) -> ApprovalDecision:
        """
        Wait for a person's decision; the status board shows that meanwhile.
        """
        told = f"approval before its {before}"
        self._waits = f"{told}: {about}" if about else told
        try:
            said = await self._context.approvals.request(
                self.task, before, about, wanted
            )
        finally:
            self._waits = ""
        self._approval = said.reason
        return said

    async def _on_answer(self, answer: ResultRef) -> Outcome:
        """
        Use the answer; invalid follow-up tasks make the task a dead letter.
        """
        if answer.fan_out is not None:
            raise_if_cancelling()
            mission, task = self._context.mission, self.task.id
            scope = mission.logical.within(task, self._context.plan.round(task))
            self._answer = answer
            children = self._context.children
            try:
                self._degradation = await run_fan_out(
                    answer.fan_out, mission, scope, children
                )
            except (ActivityError, ChildWorkflowError) as error:
                return self._outcome(TaskStatus.DEAD, f"its batch: {_cause(error)}")
        reasons = [
            *self._routes.degradation_reasons,
            *self._degradation,
            *answer.degraded,
        ]
        status = TaskStatus.DEGRADED if reasons else TaskStatus.DONE
        try:
            self._context.plan.extend(answer.follow_ups, author=self.task.id)
        except BadInputError as error:
            status, reasons = (
                TaskStatus.DEAD,
                [*reasons, f"its follow-up tasks: {error}"],
            )
        else:
            self.redo_request = answer.redo_request
        told = {"attempts": answer.attempt, "summary": answer.summary}
        return self._outcome(status, *reasons).model_copy(update=told)

    def _without_answer(self, last: FailureDecision | None) -> Outcome:
        """
        End a task that no route has answered: dead, unless it was parked, cancelled,
        without a live worker or out of budget.
        """
        if last is None:
            return self._outcome(TaskStatus.SKIPPED, *self._routes.failure_reasons)
        if last.next is Action.BUDGET_EXHAUSTED:
            return self._budget_exhausted(*self._routes.failure_reasons)
        status = {
            Action.PARK: TaskStatus.PARKED,
            Action.SKIP: TaskStatus.SKIPPED,
            Action.REROUTE: TaskStatus.SKIPPED,
        }.get(last.next, TaskStatus.DEAD)
        outcome = self._outcome(status, *self._routes.failure_reasons)
        return outcome.model_copy(update={"attempts": last.attempts})

    def _budget_exhausted(self, *reasons: str) -> Outcome:
        outcome = self._outcome(TaskStatus.SKIPPED, *reasons)
        return outcome.model_copy(update={"budget_exhausted": True})

    def _outcome(self, status: TaskStatus, *reasons: str) -> Outcome:
        told = {
            "route": self._routes.current,
            "round": self._context.plan.round(self.task.id),
            "approval": self._approval,
        }
        return outcome_without_attempt(self.task, status, *reasons).model_copy(
            update=told
        )


def _cause(error: ActivityError | ChildWorkflowError) -> str:
    """
    Say why a child has no report.
    """
    if isinstance(error.cause, TerminatedError):
        return "terminated in Temporal, by others"
    return one_line(str(error.cause or error), CAUSE_CHARS)


def _routes(task: Task, mission: Mission) -> list[str]:
    if task.role == MISSION_ROLE:
        return [MISSION_ROLE]
    return mission.crew[task.role].routes
