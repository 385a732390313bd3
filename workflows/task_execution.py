"""
One task from its approval, over its routes, to its outcome.

Nothing here ends the mission: whatever happens becomes the task's own outcome.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, TerminatedError

from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError
from outlast.contracts.prior_run import TaskState
from outlast.contracts.progress import RunningTask
from outlast.contracts.reports import Outcome, TaskStatus
from outlast.contracts.results import RedoRequest, ResultRef
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.updates import UnservedTasks
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.child_tasks import (
    TASK_STATUS_BY_MISSION_STATUS,
    run_child_mission,
    run_fan_out,
)
from outlast.workflows.failure import Action, FailureDecision
from outlast.workflows.mission_context import MissionContext
from outlast.workflows.routes import RerouteAction, no_live_worker
from outlast.workflows.task_dispatch import TaskDispatch
from outlast.workflows.task_round import TaskRound


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
        self._round = TaskRound(task, context, state or TaskState())
        self._routes = self._round.routes
        self._dispatch: TaskDispatch | None = None
        self._degradation: list[str] = []

    @property
    def running(self) -> RunningTask:
        return RunningTask(
            id=self.task.id,
            role=self.task.role,
            route=self._routes.current,
            waiting_for=self._round.waits
            or (self._dispatch.waits if self._dispatch else ""),
        )

    @property
    def state(self) -> TaskState:
        approvals, dispatch = self._context.approvals, self._dispatch
        now = {
            "failed": self._routes.failed,
            "route": self._routes.current,
            "asked": approvals.pending.get(self.task.id),
            "asked_until": approvals.until.get(self.task.id),
            "dispatch": dispatch.state if dispatch else self._round.state.dispatch,
        }
        return self._round.state.model_copy(update=now)

    def hand_back(self) -> None:
        if self._dispatch is not None:
            self._dispatch.hand_back()

    async def run(self) -> Outcome:
        """
        Run the task to its end, whatever that is, within its time budget.
        """
        limit_s = self.task.budget.time_s
        if limit_s is not None and self._round.state.until is None:
            self._round.update(until=workflow.time() + limit_s)
        until = self._round.state.until
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
        return self._round.budget_exhausted(
            f"its {self.task.budget.time_s:g} s are spent"
        )

    def reroute_action(self, unserved: UnservedTasks) -> RerouteAction:
        """
        Decide what *unserved* means for this task.
        """
        dispatch = self._dispatch
        if dispatch is None or dispatch.activity_id not in unserved.activity_ids:
            waits = self._round.waits == self._no_live_worker
            return RerouteAction.RESUME if waits else RerouteAction.KEEP
        if self._routes.next(unserved.served_roles) is not None:
            return RerouteAction.MOVE
        # Without any served role the whole fleet is away: wait for it.
        if not self.task.required and unserved.served_roles:
            return RerouteAction.SKIP
        return RerouteAction.KEEP if self._round.waits else RerouteAction.WAIT

    def apply_reroute(self, unserved: UnservedTasks) -> None:
        match self.reroute_action(unserved):
            case RerouteAction.MOVE | RerouteAction.SKIP if self._dispatch is not None:
                self._routes.mark_unserved(unserved.served_roles)
                self._dispatch.withdraw()
            case RerouteAction.WAIT:
                self._round.waits = self._no_live_worker
            case RerouteAction.RESUME:
                self._round.waits = ""

    @property
    def _no_live_worker(self) -> str:
        return no_live_worker(self._routes.current)

    async def _execute(self) -> Outcome:
        if self._round.state.answer is not None:
            return await self._on_answer(self._round.state.answer)
        approval = self.task.approval
        asks = approval is not None and approval.before == "start"
        # If it finished in an earlier run, it was approved there.
        if asks and not self._round.state.began and not await self._is_recorded():
            decision = await self._round.request_approval("start", "")
            if not decision.approved:
                return self._round.outcome(TaskStatus.SKIPPED, decision.reason)
        self._round.update(began=True)
        if self.task.role == MISSION_ROLE:
            return await self._run_child_mission()
        return await self._try_routes()

    async def _is_recorded(self) -> bool:
        answer = await self._context.recorded_answer(self.task.id)
        raise_if_cancelling()
        return answer is not None

    async def _run_child_mission(self) -> Outcome:
        context, given = self._context, self._round.attempt_input(MISSION_ROLE)
        try:
            report = await run_child_mission(context, given)
        except (ActivityError, ChildWorkflowError) as error:
            if context.stopped:
                return self._round.outcome(TaskStatus.SKIPPED, context.stopped)
            return self._round.outcome(TaskStatus.DEAD, f"its mission: {_cause(error)}")
        status = TASK_STATUS_BY_MISSION_STATUS[report.status]
        told = [f"its mission {report.mission} is {report.status}", *report.degraded]
        return self._round.outcome(status, *([] if status is TaskStatus.DONE else told))

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
                return self._round.outcome(TaskStatus.SKIPPED, self._context.stopped)
            if last.next is Action.REROUTE:
                continue
            self._routes.fail(last.cause)
            if last.next not in (Action.NEXT_ROUTE, Action.BUDGET_EXHAUSTED):
                break
        return self._round.without_answer(last)

    def _switch_route(self, route: str) -> None:
        moved = route != self._routes.current or self._round.waits
        self._routes.current, self._round.waits = route, ""
        if moved:
            self._context.publish()

    async def _dispatch_until_approved(self, route: str) -> ResultRef | FailureDecision:
        self._dispatch = dispatch = self._new_dispatch(route)
        ended = self._round.restored_request() or await dispatch.run()
        while isinstance(ended, FailureDecision):
            if ended.next is not Action.REQUEST_APPROVAL:
                return ended
            if refused := await self._round.approve_effects(ended):
                return refused
            dispatch.approve(self._round.state.approved, self._round.state.skipped)
            ended = await dispatch.run()
        return ended

    def _new_dispatch(self, route: str) -> TaskDispatch:
        context = self._context
        dispatch = TaskDispatch(
            self._round.attempt_input(route),
            route,
            context.numbers,
            lambda: context.stopped,
            context.renewal,
            context.mission.heartbeat_timeout_s,
        )
        resumed = self._round.state.dispatch
        if resumed is not None and resumed.route == route:
            dispatch.state = resumed
        self._round.update(dispatch=None)
        return dispatch

    async def _on_answer(self, answer: ResultRef) -> Outcome:
        """
        Use the answer; invalid follow-up tasks make the task a dead letter.
        """
        if answer.fan_out is not None:
            raise_if_cancelling()
            self._round.update(answer=answer)
            try:
                self._degradation = await run_fan_out(
                    self._context, answer.fan_out, self.task.id
                )
            except (ActivityError, ChildWorkflowError) as error:
                return self._round.outcome(
                    TaskStatus.DEAD, f"its batch: {_cause(error)}"
                )
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
        return self._round.outcome(status, *reasons).model_copy(update=told)


def _cause(error: ActivityError | ChildWorkflowError) -> str:
    if isinstance(error.cause, TerminatedError):
        return "terminated in Temporal, by others"
    return one_line(str(error.cause or error), CAUSE_CHARS)
