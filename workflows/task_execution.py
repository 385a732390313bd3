"""
One task from its approval, over its routes, to its outcome.

Nothing here ends the mission: whatever happens becomes the task's own outcome.
"""

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, TerminatedError

from outlast.contracts.approvals import MAX_APPROVED_EFFECTS, Moment, WantedEffect
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.prior_run import TaskState
from outlast.contracts.progress import RunningTask
from outlast.contracts.reports import Outcome, TaskStatus, outcome_without_attempt
from outlast.contracts.results import RedoRequest, ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.updates import UnservedTasks
from outlast.workflows.approvals import ApprovalDecision
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.child_tasks import (
    TASK_STATUS_BY_MISSION_STATUS,
    run_child_mission,
    run_fan_out,
)
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.mission_context import MissionContext
from outlast.workflows.routes import RerouteAction, Routes, no_live_worker
from outlast.workflows.task_dispatch import TaskDispatch

# How a task ends that no route has answered; dead after anything else.
STATUS_WITHOUT_ANSWER = {
    Action.PARK: TaskStatus.PARKED,
    Action.SKIP: TaskStatus.SKIPPED,
    Action.REROUTE: TaskStatus.SKIPPED,
}


class TaskExecution:
    """
    One round of *task*, in flight.

    :param state: where an earlier run of its mission left it.
    """

    def __init__(
        self, task: Task, context: MissionContext, state: TaskState | None = None
    ) -> None:
        self.task = task
        self.redo_request: RedoRequest | None = None
        self._context = context
        state = state or TaskState()
        self._routes = Routes(_routes(task, context.mission), state.failed, state.route)
        # For this round only.
        redriven = context.redrive_checkpoints.pop(task.id, None)
        self._state = state.model_copy(
            update={"checkpoint": redriven or state.checkpoint}
        )
        self._dispatch: TaskDispatch | None = None
        self._degradation: list[str] = []
        self._waits = ""

    @property
    def running(self) -> RunningTask:
        return RunningTask(
            id=self.task.id,
            role=self.task.role,
            route=self._routes.current,
            waiting_for=self._waits or (self._dispatch.waits if self._dispatch else ""),
        )

    @property
    def state(self) -> TaskState:
        approvals, dispatch = self._context.approvals, self._dispatch
        now = {
            "failed": self._routes.failed,
            "route": self._routes.current,
            "asked": approvals.pending.get(self.task.id),
            "asked_until": approvals.until.get(self.task.id),
            "dispatch": dispatch.state if dispatch else self._state.dispatch,
        }
        return self._state.model_copy(update=now)

    def hand_back(self) -> None:
        if self._dispatch is not None:
            self._dispatch.hand_back()

    async def run(self) -> Outcome:
        """
        Run the task to its end, whatever that is, within its time budget.
        """
        limit_s = self.task.budget.time_s
        if limit_s is not None and self._state.until is None:
            self._update(until=workflow.time() + limit_s)
        until = self._state.until
        left_s = None if until is None else max(0.0, until - workflow.time())
        try:
            async with asyncio.timeout(left_s) as clock:
                outcome = await self._execute()
        except TimeoutError:
            return await self._timed_out()
        if clock.expired() and not outcome.has_result:
            return await self._timed_out()
        return outcome

    async def _timed_out(self) -> Outcome:
        """
        End a task whose time is spent, unless the ledger has its answer after all.
        """
        answer = await self._context.recorded_answer(self.task.id)
        if answer is not None and answer.fan_out is None:
            return await self._on_answer(answer)
        return self._budget_exhausted(f"its {self.task.budget.time_s:g} s are spent")

    def reroute_action(self, unserved: UnservedTasks) -> RerouteAction:
        """
        Decide what *unserved* means for this task.
        """
        dispatch = self._dispatch
        if dispatch is None or dispatch.activity_id not in unserved.activity_ids:
            waits = self._waits == self._no_live_worker
            return RerouteAction.RESUME if waits else RerouteAction.KEEP
        if self._routes.next(unserved.served_roles) is not None:
            return RerouteAction.MOVE
        # Without any served role the whole fleet is away: wait for it.
        if not self.task.required and unserved.served_roles:
            return RerouteAction.SKIP
        return RerouteAction.KEEP if self._waits else RerouteAction.WAIT

    def apply_reroute(self, unserved: UnservedTasks) -> None:
        match self.reroute_action(unserved):
            case RerouteAction.MOVE | RerouteAction.SKIP if self._dispatch is not None:
                self._routes.mark_unserved(unserved.served_roles)
                self._dispatch.withdraw()
            case RerouteAction.WAIT:
                self._waits = self._no_live_worker
            case RerouteAction.RESUME:
                self._waits = ""

    @property
    def _no_live_worker(self) -> str:
        return no_live_worker(self._routes.current)

    async def _execute(self) -> Outcome:
        if self._state.answer is not None:
            return await self._on_answer(self._state.answer)
        approval = self.task.approval
        asks = approval is not None and approval.before == "start"
        # If it finished in an earlier run, it was approved there.
        if asks and not self._state.began and not await self._is_recorded():
            decision = await self._request_approval("start", "")
            if not decision.approved:
                return self._outcome(TaskStatus.SKIPPED, decision.reason)
        self._update(began=True)
        if self.task.role == MISSION_ROLE:
            return await self._run_child_mission()
        return await self._try_routes()

    async def _is_recorded(self) -> bool:
        answer = await self._context.recorded_answer(self.task.id)
        raise_if_cancelling()
        return answer is not None

    async def _run_child_mission(self) -> Outcome:
        context, given = self._context, self._attempt_input(MISSION_ROLE)
        try:
            report = await run_child_mission(context, given)
        except (ActivityError, ChildWorkflowError) as error:
            if context.stopped:
                return self._outcome(TaskStatus.SKIPPED, context.stopped)
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
            if self._context.stopped:
                # Whatever the attempt raised while it was being cancelled, the mission
                # ended it.
                return self._outcome(TaskStatus.SKIPPED, self._context.stopped)
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
        self._dispatch = dispatch = self._new_dispatch(route)
        ended = self._restored_request() or await dispatch.run()
        while isinstance(ended, FailureDecision):
            if ended.next is not Action.REQUEST_APPROVAL:
                return ended
            if refused := await self._approve_effects(ended):
                return refused
            dispatch.approve(self._state.approved, self._state.skipped)
            ended = await dispatch.run()
        return ended

    def _new_dispatch(self, route: str) -> TaskDispatch:
        context = self._context
        dispatch = TaskDispatch(
            self._attempt_input(route),
            route,
            context.numbers,
            lambda: context.stopped,
            context.renewal,
            context.mission.heartbeat_timeout_s,
        )
        resumed = self._state.dispatch
        if resumed is not None and resumed.route == route:
            dispatch.state = resumed
        self._update(dispatch=None)
        return dispatch

    async def _approve_effects(
        self, wanting: FailureDecision
    ) -> FailureDecision | None:
        """
        Ask a person about the effects that an attempt wants; returns how the route ends
        when they are not approved.
        """
        state = self._state
        if len(state.approved) + len(state.skipped) >= MAX_APPROVED_EFFECTS:
            why = f"it wants more than {MAX_APPROVED_EFFECTS} effects approved"
            return FailureDecision(Action.NEXT_ROUTE, why, attempts=wanting.attempts)
        wanted = wanting.wanted_effects
        decision = await self._request_approval("effect", wanting.cause, wanted)
        if not decision.approved:
            why = decision.reason
            return FailureDecision(Action.SKIP, why, attempts=wanting.attempts)
        skipped = [each.digest for each in wanted if decision.skips and each.recorded]
        approved = [each.digest for each in wanted if each.digest not in skipped]
        self._update(
            approved=[*state.approved, *approved], skipped=[*state.skipped, *skipped]
        )
        return None

    def _restored_request(self) -> FailureDecision | None:
        asked = self._state.asked
        self._update(asked=None)
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
            checkpoint=self._state.checkpoint,
            redo_reason=plan.reasons.get(task.id),
            scope=mission.logical,
            approved=self._state.approved,
            skipped=self._state.skipped,
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
            decision = await self._context.approvals.request(
                self.task, before, about, wanted
            )
        finally:
            self._waits = ""
        self._update(approval=decision.reason)
        return decision

    async def _on_answer(self, answer: ResultRef) -> Outcome:
        """
        Use the answer; invalid follow-up tasks make the task a dead letter.
        """
        if answer.fan_out is not None:
            raise_if_cancelling()
            self._update(answer=answer)
            try:
                self._degradation = await run_fan_out(
                    self._context, answer.fan_out, self.task.id
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
            status = TaskStatus.DEAD
            reasons.append(f"its follow-up tasks: {error}")
        else:
            self.redo_request = answer.redo_request
        told = {"attempts": answer.attempt, "summary": answer.summary}
        return self._outcome(status, *reasons).model_copy(update=told)

    def _without_answer(self, last: FailureDecision | None) -> Outcome:
        """
        End a task that no route has answered: dead, unless it was parked, cancelled,
        without a live worker or out of budget.
        """
        reasons = self._routes.failure_reasons
        if last is None:
            return self._outcome(TaskStatus.SKIPPED, *reasons)
        if last.next is Action.BUDGET_EXHAUSTED:
            return self._budget_exhausted(*reasons)
        status = STATUS_WITHOUT_ANSWER.get(last.next, TaskStatus.DEAD)
        outcome = self._outcome(status, *reasons)
        return outcome.model_copy(update={"attempts": last.attempts})

    def _budget_exhausted(self, *reasons: str) -> Outcome:
        outcome = self._outcome(TaskStatus.SKIPPED, *reasons)
        return outcome.model_copy(update={"budget_exhausted": True})

    def _outcome(self, status: TaskStatus, *reasons: str) -> Outcome:
        told = {
            "route": self._routes.current,
            "round": self._context.plan.round(self.task.id),
            "approval": self._state.approval,
        }
        outcome = outcome_without_attempt(self.task, status, *reasons)
        return outcome.model_copy(update=told)

    def _update(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)


def _cause(error: ActivityError | ChildWorkflowError) -> str:
    if isinstance(error.cause, TerminatedError):
        return "terminated in Temporal, by others"
    return one_line(str(error.cause or error), CAUSE_CHARS)


def _routes(task: Task, mission: Mission) -> list[str]:
    if task.role == MISSION_ROLE:
        return [MISSION_ROLE]
    return mission.crew[task.role].routes
