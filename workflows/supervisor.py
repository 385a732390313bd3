"""
The supervisor: run the plan, continue after every death, report what is missing.

A task ends done, degraded, skipped, parked or dead, never undecided.
An agent's crash is never the supervisor's crash.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import NoReturn

from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.attempts import Checkpoint
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.missions import Mission, Opening, filled_in
    from outlast.contracts.plan import WITH_RESULT, Plan, outcome_without_attempt
    from outlast.contracts.prior_run import PriorRun, TaskState
    from outlast.contracts.reports import (
        MissionProgress,
        MissionStatus,
        Outcome,
        Report,
        TaskStatus,
        fitting,
    )
    from outlast.contracts.results import RedoRequest
    from outlast.contracts.tasks import Task
    from outlast.contracts.text import CAUSE_CHARS, one_line
    from outlast.contracts.updates import DecisionInput, Redrive, UnservedTasks
    from outlast.workflows.approvals import Approvals
    from outlast.workflows.bookkeeping import (
        failure_of,
        record_mission_closed,
        record_mission_opened,
        report_of,
    )
    from outlast.workflows.cancellation import is_cancelling
    from outlast.workflows.children import ChildRuns
    from outlast.workflows.dispatch import DispatchNumbers
    from outlast.workflows.entry import NOTHING, read_mission, refusal, without_tasks
    from outlast.workflows.faults import FAULTS, cause_of
    from outlast.workflows.renewal import Renewal
    from outlast.workflows.status_board import MAX_BOARD_ROWS, render_board
    from outlast.workflows.task_execution import (
        MissionContext,
        RerouteAction,
        TaskExecution,
    )

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastStatus")
TENANT_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastTenant")

# What awaiting a task's ending may raise instead of returning an outcome.
TASK_ENDS = (Exception, asyncio.CancelledError)


# With another number of inputs than one, the call itself would raise a TypeError.
@workflow.defn(name="Supervisor", failure_exception_types=FAULTS)
class SupervisorWorkflow:
    """
    One mission, from plan to report; with a *past* it continues where an earlier run
    ended, also because its history was full.
    """

    @workflow.init
    def __init__(self, given: RawValue = NOTHING) -> None:
        self.refused: BadInputError | None = None
        self.opened = False
        self.mission = without_tasks(workflow.info().workflow_id)
        blank = self.mission
        try:
            self.mission = read_mission(given)
        except BadInputError as error:
            self.refused = error
        past = self.mission.prior_run or PriorRun(outcomes=[])
        self.restored_tasks = past.tasks_in_flight
        self.approvals = Approvals(self._publish_status, _deadlines(past))
        self.renewal = Renewal()
        self.children = ChildRuns(self.renewal)
        self.paused = past.paused
        self.until = past.until
        self.stopped: str | None = None
        self.cancelled = False
        self.fault: Exception | None = None  # a fault of our own
        self.running: dict[str, tuple[TaskExecution, asyncio.Task[None]]] = {}
        self.redoing: dict[asyncio.Task[None], None] = {}
        self.redrive_checkpoints: dict[str, Checkpoint] = {}
        self.numbers = DispatchNumbers(past.dispatches)
        self._restore(blank)
        try:
            if self.mission.store:  # else its routes are resolved first
                self._restore(self.mission)
        except BadInputError as error:
            self.refused = error

    def _restore(self, mission: Mission) -> None:
        """
        Make the plan of *mission*, and restore what an earlier run left.

        :raises BadInputError: when the plan is invalid.
        """
        self.plan = Plan(mission)
        self.context = MissionContext(
            mission=mission,
            plan=self.plan,
            approvals=self.approvals,
            numbers=self.numbers,
            children=self.children,
            renewal=self.renewal,
            stopped=lambda: self.stopped,
            redrive_checkpoints=self.redrive_checkpoints,
            publish=self._publish_status,
        )
        if mission.prior_run is not None:
            self.plan.restore(mission.prior_run)
            self.redrive_checkpoints.update(mission.prior_run.checkpoints)
            if mission.prior_run.redrive is not None:
                self.redrive_checkpoints.update(mission.prior_run.redrive.checkpoints)

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> Report:
        try:
            await self._until_settled()
            outcomes = list(self.plan.outcomes.values())
            report = report_of(self.mission.id, outcomes, self.cancelled)
        except workflow.NondeterminismError:
            raise
        except Exception as error:
            if isinstance(error, FailureError) and self.fault is None:
                raise  # the mission record cannot be opened
            report = await self._failed(error)
        await self._record_closed(report)
        if report.status is MissionStatus.FAILED:
            raise failure_of(report)
        return report

    async def _open(self) -> None:
        """
        Open the mission's record, and fill in what it lacks.

        :raises ApplicationError: when its input cannot be used: the workflow fails.
        """
        try:
            if self.refused is not None:
                raise self.refused
            opening, cancelled = await record_mission_opened(self.mission)
            if opening is not None:
                self._fill_in(opening)
        except (BadInputError, ActivityError) as error:
            raise refusal(error) from None
        self.opened = True
        if cancelled:
            raise asyncio.CancelledError

    def _fill_in(self, opening: Opening) -> None:
        self.mission = filled_in(self.mission, opening)
        self._restore(self.mission)
        if opening.has_search_attributes:
            tenant = TENANT_ATTRIBUTE.value_set(self.mission.tenant)
            workflow.upsert_search_attributes(
                [STATUS_ATTRIBUTE.value_set("running"), tenant]
            )

    @workflow.query
    def progress(self) -> MissionProgress:
        waiting = [task.id for task in self.plan.waiting]
        return fitting(self._progress(waiting, self.plan.outcomes.values()))

    def _progress(
        self, waiting: list[str], settled: Iterable[Outcome]
    ) -> MissionProgress:
        return MissionProgress(
            mission=self.mission.id,
            paused=self.paused,
            waiting=waiting,
            running=[execution.running for execution, _ in self.running.values()],
            settled=list(settled),
            approval_requests=list(self.approvals.pending.values()),
        )

    @workflow.update
    async def pause(self) -> None:
        """
        Start no further task; in-flight attempts continue.
        """
        self.paused = True
        self._publish_status()

    @pause.validator
    def _may_pause(self) -> None:
        self._require_open()
        if self.paused:
            raise ValueError("the mission is paused already")

    @workflow.update
    async def unpause(self) -> None:
        """
        Start tasks again.
        """
        self.paused = False
        self._publish_status()

    @unpause.validator
    def _may_unpause(self) -> None:
        self._require_open()
        if not self.paused:
            raise ValueError("the mission is not paused")

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the mission: cancel in-flight attempts, keep the results so far.
        """
        self.cancelled = True
        self.stopped = one_line(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        self._require_open()

    @workflow.update
    async def approve(self, decision: DecisionInput) -> None:
        """
        Approve the start or the effects of a task.
        """
        self.approvals.decide(decision, True)

    @approve.validator
    def _may_approve(self, decision: DecisionInput) -> None:
        self._require_open()
        self.approvals.require_pending(decision)

    @workflow.update
    async def reject(self, decision: DecisionInput) -> None:
        """
        Skip a task that waits for approval.
        """
        self.approvals.decide(decision, False)

    @reject.validator
    def _may_reject(self, decision: DecisionInput) -> None:
        self._require_open()
        self.approvals.require_pending(decision)

    @workflow.update
    async def redrive(self, redrive: Redrive) -> None:
        """
        Run dead-lettered tasks again, each from its last checkpoint.
        """
        self.redrive_checkpoints.update(redrive.checkpoints)
        await self._redo(redrive.tasks, "redriven")

    @redrive.validator
    def _may_redrive(self, redrive: Redrive) -> None:
        self._require_open()
        for task in redrive.tasks:
            if self.plan.reopening or not self.plan.is_dead(task):
                raise ValueError(f"task {task!r} has not been given up")

    @workflow.update
    async def reroute(self, unserved: UnservedTasks) -> None:
        """
        Withdraw tasks from queues without a live worker, as the lookout has reported.
        """
        for execution, _ in self.running.values():
            execution.apply_reroute(unserved)
        self._publish_status()

    @reroute.validator
    def _may_reroute(self, unserved: UnservedTasks) -> None:
        # Refused where nothing changes: a refused update leaves no event in the
        # history.
        turns = (
            execution.reroute_action(unserved) for execution, _ in self.running.values()
        )
        if all(turn is RerouteAction.KEEP for turn in turns):
            raise ValueError("it changes nothing")

    @workflow.signal
    async def child_ended(self, child: str) -> None:
        """
        Note that a child of an earlier run has ended.
        """
        self.children.note_end(child)

    def _require_open(self) -> None:
        if self.refused or self.stopped or (self.opened and self.plan.settled):
            raise ValueError("the mission has ended")

    async def _until_settled(self) -> None:
        """
        Run the plan, also where the mission is cancelled from outside: its results are
        kept and reported all the same.
        """
        try:
            await self._open()
            await self._run_plan()
        except asyncio.CancelledError:
            self.cancelled = True
            while not self.plan.settled:
                await self._stop("cancelled")

    async def _run_plan(self) -> None:
        """
        Start ready tasks until all are settled, the mission is stopped or its deadline
        passes.
        """
        limit = timedelta(seconds=self.mission.limits.deadline_s)
        if self.until is None:
            self.until = workflow.time() + limit.total_seconds()
        left_s = max(0.0, self.until - workflow.time())
        deadline = asyncio.create_task(workflow.sleep(left_s, summary="deadline"))
        try:
            while not self.plan.settled:
                self._renew_if_full()
                self._start_ready()
                await workflow.wait_condition(lambda: self._is_due(deadline))
                if deadline.done():
                    self.stopped = f"the deadline of {limit} passed"
                if self.stopped:
                    await self._stop(self.stopped)
        finally:
            deadline.cancel()

    def _is_due(self, deadline: asyncio.Task[None]) -> bool:
        """
        Say whether there is something to decide. A condition must not raise: that would
        fail the workflow task.
        """
        with self._recording_faults():
            ended = self.plan.settled or self.stopped or deadline.done()
            return bool(ended or self.fault or self._next() or self._renews())
        return True

    def _next(self) -> Task | None:
        """
        Find the task to start now, if there is room for one.
        """
        full = len(self.running) >= self.mission.limits.concurrency
        if self.paused or self.stopped or full or self.renewal.due:
            return None
        return self.plan.next_ready()

    def _renews(self) -> bool:
        """
        Say whether the history is full and the mission can do something about it.
        """
        renewal = self.renewal
        if not renewal.due:
            return renewal.is_full
        return self._at_rest or renewal.must_hand_back

    @property
    def _at_rest(self) -> bool:
        """
        Say whether the next run would know all that this one does.
        """
        return self.renewal.at_rest and self.approvals.at_rest and not self.redoing

    def _renew_if_full(self) -> None:
        """
        Continue as new, once nothing is in flight that would be lost with this run.
        """
        renewal = self.renewal
        if self.stopped or not (renewal.due or renewal.is_full):
            return
        if not renewal.due:
            renewal.begin()
        if self._at_rest:
            self._continue_as_new()
        if renewal.must_hand_back:
            renewal.handed_back = True
            for execution, _ in self.running.values():
                execution.hand_back()

    def _continue_as_new(self) -> NoReturn:
        now = {
            "tasks_in_flight": {
                name: execution.state for name, (execution, _) in self.running.items()
            },
            "checkpoints": self.redrive_checkpoints,
            "paused": self.paused,
            "until": self.until,
            "dispatches": self.numbers.last,
        }
        past = self.plan.to_prior_run().model_copy(update=now)
        workflow.continue_as_new(self.mission.model_copy(update={"prior_run": past}))

    def _start_ready(self) -> None:
        self._raise_fault()
        under_way, self.restored_tasks = self.restored_tasks, {}
        for name, state in under_way.items():
            self._start(self.plan.tasks[name], state)
        while task := self._next():
            self._start(task)
        self._publish_status()

    def _start(self, task: Task, state: TaskState | None = None) -> None:
        self.plan.start(task)
        execution = TaskExecution(task, self.context, state)
        ending = asyncio.create_task(self._run_task(execution))
        self.running[task.id] = (execution, ending)

    async def _stop(self, reason: str) -> None:
        """
        Cancel what runs, wait until it has ended, and skip the rest.
        """
        self._raise_fault()
        self.stopped = reason
        idle = not (self.running or self.redoing or self.plan.waiting)
        assert not idle, "tasks that are not under way have no end"
        self.plan.stop(reason)
        await self._end(list(self.running))
        await asyncio.gather(*self.redoing, return_exceptions=True)

    async def _end(self, tasks: Iterable[str]) -> None:
        """
        Cancel those of *tasks* that run and wait until they have ended.
        """
        ending = [self.running[task][1] for task in tasks if task in self.running]
        for each in ending:
            each.cancel()
        for found in await asyncio.gather(*ending, return_exceptions=True):
            if isinstance(found, BaseException) and not isinstance(found, TASK_ENDS):
                raise found  # else an evicted workflow would wait for ever

    async def _run_task(self, execution: TaskExecution) -> None:
        """
        Run a task to its end, whatever that is, and show it on the status board.
        """
        with self._recording_faults():
            outcome = await self._outcome(execution)
            del self.running[execution.task.id]
            if outcome is not None:
                self.plan.record(outcome)
            self._publish_status()

    async def _outcome(self, execution: TaskExecution) -> Outcome | None:
        """
        Await the end of a task; None when it is redone.
        """
        task = execution.task
        try:
            outcome = await execution.run()
            if execution.redo_request is None or outcome.status not in WITH_RESULT:
                return outcome
            if is_cancelling():
                raise asyncio.CancelledError  # another task's redo has ended this one
        except asyncio.CancelledError:
            return outcome_without_attempt(
                task, TaskStatus.SKIPPED, self.stopped or "cancelled"
            )
        except workflow.NondeterminismError:
            raise
        except Exception as error:
            # A fault of ours must not leave a task undecided.
            workflow.logger.exception("task.not_ended")
            return outcome_without_attempt(
                task, TaskStatus.DEAD, one_line(repr(error), CAUSE_CHARS)
            )
        return self._rejected(task, execution.redo_request, outcome)

    def _rejected(
        self, task: Task, wants: RedoRequest, outcome: Outcome
    ) -> Outcome | None:
        """
        Redo the task that *task* has rejected, and *task* with it. Past the limit, use
        its result as degraded, or park it for a person.
        """
        told = f"{wants.task} rejected: {one_line(wants.reason, CAUSE_CHARS)}"
        try:
            allowed = self.plan.request_redo(task.id, wants.task)
        except BadInputError as error:
            reasons, status = [*outcome.reasons, f"its redo: {error}"], TaskStatus.DEAD
            return outcome.model_copy(update={"status": status, "reasons": reasons})
        if allowed:
            self._redo([wants.task], told, asker=task)
            return None
        status = TaskStatus.DEGRADED if wants.has_result else TaskStatus.PARKED
        reasons = [*outcome.reasons, f"{told} (round {self.plan.round(wants.task)})"]
        return outcome.model_copy(update={"status": status, "reasons": reasons})

    def _redo(
        self, tasks: list[str], reason: str, asker: Task | None = None
    ) -> asyncio.Task[None]:
        """
        Redo *tasks* and all that depends on them. A task of its own does that: another
        redo may end the task that has asked for this one.
        """
        self.plan.hold_back(tasks)
        redoing = asyncio.create_task(self._redo_tasks(tasks, reason, asker))
        self.redoing[redoing] = None
        redoing.add_done_callback(self.redoing.pop)
        return redoing

    async def _redo_tasks(
        self, tasks: list[str], reason: str, asker: Task | None
    ) -> None:
        """
        End what depends on *tasks* and begin a new round of *tasks* and all of that.
        """
        with self._recording_faults():
            await self._end(sorted(self.plan.downstream_of(tasks)))
            if not self.stopped:
                self.plan.reopen(tasks, reason)
            elif asker is not None:
                self.plan.record(
                    outcome_without_attempt(asker, TaskStatus.SKIPPED, self.stopped)
                )
            self.plan.release(tasks)

    @contextmanager
    def _recording_faults(self) -> Iterator[None]:
        """
        Record what our own bookkeeping raises: nothing awaits this task's exception.
        """
        try:
            yield
        except Exception as error:
            self.fault = self.fault or error

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def _failed(self, error: Exception) -> Report:
        """
        End a mission whose bookkeeping is broken: each task without an outcome is a
        dead letter, with the cause.
        """
        workflow.logger.error("mission.faulted", exc_info=error)
        self.fault, cause = error, cause_of(error)
        self.stopped = cause
        under_way = [ending for _, ending in self.running.values()]
        for each in under_way:
            each.cancel()
        ending = asyncio.gather(*under_way, *self.redoing, return_exceptions=True)
        while not ending.done():
            with suppress(asyncio.CancelledError):  # every task of it ends
                await asyncio.shield(ending)
        known = self.plan.outcomes
        left = [task for task in self.plan.tasks.values() if task.id not in known]
        why = "the bookkeeping of its mission failed"
        outcomes = [
            *known.values(),
            *(outcome_without_attempt(each, TaskStatus.DEAD, why) for each in left),
        ]
        report = report_of(self.mission.id, outcomes, self.cancelled)
        degraded = [cause, *report.degraded]
        return report.model_copy(
            update={"status": MissionStatus.FAILED, "degraded": degraded}
        )

    async def _record_closed(self, report: Report) -> None:
        await record_mission_closed(report)
        self._publish_status(report.status)

    def _publish_status(self, status: str = "running") -> None:
        """
        Render the status board; tag the mission where the server has our search
        attribute.
        """
        workflow.set_current_details(render_board(self._latest(), len(self.plan.tasks)))
        tag = "paused" if self.paused and status == "running" else status
        tags = workflow.info().typed_search_attributes
        if tags.get(STATUS_ATTRIBUTE, tag) != tag:
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set(tag)])

    def _latest(self) -> MissionProgress:
        """
        Return what runs, what is asked, and as much of the rest as fits on the board.
        """
        small = len(self.plan.tasks) <= MAX_BOARD_ROWS
        waiting = [task.id for task in self.plan.waiting] if small else []
        ended = islice(reversed(self.plan.outcomes.values()), MAX_BOARD_ROWS)
        return self._progress(waiting, reversed([*ended]))


def _deadlines(past: PriorRun) -> dict[str, float]:
    """
    List the deadlines of the approval requests that an earlier run has made.
    """
    return {
        name: state.asked_until
        for name, state in past.tasks_in_flight.items()
        if state.asked_until is not None
    }
