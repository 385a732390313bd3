"""
Run a mission's plan: start what is ready, until all is settled, the mission is stopped,
its deadline passes or its history is full.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from typing import NoReturn

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from outlast.contracts.missions import Mission
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.progress import MissionProgress, fitting
from outlast.contracts.reports import (
    MissionStatus,
    Outcome,
    Report,
    TaskStatus,
    outcome_without_attempt,
    report_of,
)
from outlast.contracts.tasks import Task
from outlast.workflows.faults import cause_of
from outlast.workflows.mission_context import MissionContext
from outlast.workflows.running_tasks import RunningTasks
from outlast.workflows.status_board import MAX_BOARD_ROWS, render_board

STATUS_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastStatus")


class MissionLoop:
    """
    The loop of *mission*, from where an earlier run of its workflow left it.
    """

    def __init__(self, mission: Mission) -> None:
        past = mission.prior_run or PriorRun(outcomes=[])
        self.context = MissionContext(mission, self.publish_status)
        self.tasks = RunningTasks(self.context)
        self._restored_tasks = past.tasks_in_flight
        self._until = past.until

    async def run(self) -> None:
        """
        Start ready tasks until all are settled, the mission is stopped or its deadline
        passes.
        """
        limit = timedelta(seconds=self.context.mission.limits.deadline_s)
        if self._until is None:
            self._until = workflow.time() + limit.total_seconds()
        left_s = max(0.0, self._until - workflow.time())
        deadline = asyncio.create_task(workflow.sleep(left_s, summary="deadline"))
        try:
            while not self.context.plan.settled:
                self._renew_if_full()
                self._start_ready()
                await workflow.wait_condition(lambda: self._is_due(deadline))
                if deadline.done():
                    self.context.stopped = f"the deadline of {limit} passed"
                if self.context.stopped:
                    await self.stop(self.context.stopped)
        finally:
            deadline.cancel()

    async def stop(self, reason: str) -> None:
        """
        Cancel what runs, wait until it has ended, and skip the rest.
        """
        self.tasks.raise_fault()
        self.context.stopped = reason
        idle = not (self.tasks or self.tasks.is_redoing or self.context.plan.waiting)
        assert not idle, "tasks that are not under way have no end"
        self.context.plan.stop(reason)
        await self.tasks.end_all()

    async def fail(self, error: Exception) -> Report:
        """
        End a mission whose bookkeeping is broken: each task without an outcome is a
        dead letter, with the cause.
        """
        workflow.logger.error("mission.faulted", exc_info=error)
        self.tasks.fault, cause = error, cause_of(error)
        self.context.stopped = cause
        await self.tasks.abandon()
        known = self.context.plan.outcomes
        why = "the bookkeeping of its mission failed"
        left = [
            outcome_without_attempt(task, TaskStatus.DEAD, why)
            for task in self.context.plan.tasks.values()
            if task.id not in known
        ]
        report = self._report([*known.values(), *left])
        failed = {
            "status": MissionStatus.FAILED,
            "degraded": [cause, *report.degraded],
        }
        return report.model_copy(update=failed)

    def report(self) -> Report:
        return self._report(list(self.context.plan.outcomes.values()))

    def _report(self, outcomes: list[Outcome]) -> Report:
        return report_of(self.context.mission.id, outcomes, self.context.cancelled)

    def _is_due(self, deadline: asyncio.Task[None]) -> bool:
        """
        Say whether there is something to decide. A condition must not raise: that would
        fail the workflow task.
        """
        with self.tasks.recording_faults():
            context = self.context
            ended = context.plan.settled or context.stopped or deadline.done()
            faulted = self.tasks.fault is not None
            return bool(ended or faulted or self._next() or self._renews())
        return True

    def _next(self) -> Task | None:
        context = self.context
        full = len(self.tasks) >= context.mission.limits.concurrency
        if context.paused or context.stopped or full or context.renewal.due:
            return None
        return context.plan.next_ready()

    def _start_ready(self) -> None:
        self.tasks.raise_fault()
        under_way, self._restored_tasks = self._restored_tasks, {}
        for name, state in under_way.items():
            self.tasks.start(self.context.plan.tasks[name], state)
        while task := self._next():
            self.tasks.start(task)
        self.publish_status()

    def _renews(self) -> bool:
        """
        Say whether the history is full and the mission can do something about it.
        """
        renewal = self.context.renewal
        if not renewal.due:
            return renewal.is_full
        return self._at_rest or renewal.must_hand_back

    @property
    def _at_rest(self) -> bool:
        """
        Say whether the next run would know all that this one does.
        """
        context = self.context
        at_rest = context.renewal.at_rest and context.approvals.at_rest
        return at_rest and not self.tasks.is_redoing

    def _renew_if_full(self) -> None:
        """
        Continue as new, once nothing is in flight that would be lost with this run.
        """
        renewal = self.context.renewal
        if self.context.stopped or not renewal.is_needed:
            return
        if not renewal.due:
            renewal.begin()
        if self._at_rest:
            self._continue_as_new()
        if renewal.must_hand_back:
            renewal.handed_back = True
            for execution in self.tasks.executions:
                execution.hand_back()

    def _continue_as_new(self) -> NoReturn:
        context = self.context
        now = {
            "tasks_in_flight": self.tasks.states,
            "checkpoints": context.redrive_checkpoints,
            "paused": context.paused,
            "until": self._until,
            "dispatches": context.numbers.last,
        }
        past = context.plan.to_prior_run().model_copy(update=now)
        workflow.continue_as_new(context.mission.model_copy(update={"prior_run": past}))

    @property
    def progress(self) -> MissionProgress:
        plan = self.context.plan
        waiting = [task.id for task in plan.waiting]
        return fitting(self._progress(waiting, plan.outcomes.values()))

    def publish_status(self, status: str = "running") -> None:
        """
        Render the status board; tag the mission where the server has our search
        attribute.
        """
        # Of many tasks only what runs, what is asked, and what ended last: see
        # `status_board`.
        plan = self.context.plan
        small = len(plan.tasks) <= MAX_BOARD_ROWS
        waiting = [task.id for task in plan.waiting] if small else []
        ended = islice(reversed(plan.outcomes.values()), MAX_BOARD_ROWS)
        latest = self._progress(waiting, reversed([*ended]))
        workflow.set_current_details(render_board(latest, len(plan.tasks)))
        tag = "paused" if self.context.paused and status == "running" else status
        tags = workflow.info().typed_search_attributes
        if tags.get(STATUS_ATTRIBUTE, tag) != tag:
            workflow.upsert_search_attributes([STATUS_ATTRIBUTE.value_set(tag)])

    def _progress(
        self, waiting: list[str], settled: Iterable[Outcome]
    ) -> MissionProgress:
        return MissionProgress(
            mission=self.context.mission.id,
            paused=self.context.paused,
            waiting=waiting,
            running=[execution.running for execution in self.tasks.executions],
            settled=list(settled),
            approval_requests=list(self.context.approvals.pending.values()),
        )
