"""
The supervisor: run the plan, continue after every death, report what is missing.

A task ends done, degraded, skipped, parked or dead, never undecided.
An agent's crash is never the supervisor's crash.

Here is how a mission begins and ends, and what others may ask of it; `mission_loop`
runs its plan.
"""

import asyncio

from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.missions import Opening, filled_in
    from outlast.contracts.progress import MissionProgress
    from outlast.contracts.reports import MissionStatus, Report
    from outlast.contracts.text import CAUSE_CHARS, one_line
    from outlast.contracts.updates import DecisionInput, Redrive, UnservedTasks
    from outlast.workflows.bookkeeping import (
        failure_of,
        record_mission_closed,
        record_mission_opened,
    )
    from outlast.workflows.entry import NOTHING, read_mission, refusal, without_tasks
    from outlast.workflows.faults import FAULTS
    from outlast.workflows.mission_loop import STATUS_ATTRIBUTE, MissionLoop
    from outlast.workflows.routes import RerouteAction

TENANT_ATTRIBUTE = SearchAttributeKey.for_keyword("OutlastTenant")


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
        mission = without_tasks(workflow.info().workflow_id)
        try:
            mission = read_mission(given)
        except BadInputError as error:
            self.refused = error
        self.loop = MissionLoop(mission)
        self.context = self.loop.context
        try:
            if mission.store:  # else its routes are resolved first
                self.context.load(mission)
        except BadInputError as error:
            self.refused = error

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> Report:
        try:
            await self._until_settled()
            report = self.loop.report()
        except workflow.NondeterminismError:
            raise
        except Exception as error:
            if isinstance(error, FailureError) and self.loop.tasks.fault is None:
                raise  # the mission record cannot be opened
            report = await self.loop.fail(error)
        await self._record_closed(report)
        if report.status is MissionStatus.FAILED:
            raise failure_of(report)
        return report

    async def _until_settled(self) -> None:
        """
        Run the plan, also where the mission is cancelled from outside: its results are
        kept and reported all the same.
        """
        try:
            await self._open()
            await self.loop.run()
        except asyncio.CancelledError:
            self.context.cancelled = True
            while not self.context.plan.settled:
                await self.loop.stop("cancelled")

    async def _open(self) -> None:
        """
        Open the mission's record, and fill in what it lacks.

        :raises ApplicationError: when its input cannot be used: the workflow fails.
        """
        try:
            if self.refused is not None:
                raise self.refused
            opening, cancelled = await record_mission_opened(self.context.mission)
            if opening is not None:
                self._fill_in(opening)
        except (BadInputError, ActivityError) as error:
            raise refusal(error) from None
        self.opened = True
        if cancelled:
            raise asyncio.CancelledError

    def _fill_in(self, opening: Opening) -> None:
        mission = filled_in(self.context.mission, opening)
        self.context.load(mission)
        if opening.has_search_attributes:
            tenant = TENANT_ATTRIBUTE.value_set(mission.tenant)
            workflow.upsert_search_attributes(
                [STATUS_ATTRIBUTE.value_set("running"), tenant]
            )

    async def _record_closed(self, report: Report) -> None:
        await record_mission_closed(report)
        self.loop.publish_status(report.status)

    def _require_open(self) -> None:
        settled = self.opened and self.context.plan.settled
        if self.refused or self.context.stopped or settled:
            raise ValueError("the mission has ended")

    @workflow.query
    def progress(self) -> MissionProgress:
        return self.loop.progress

    @workflow.update
    async def pause(self) -> None:
        """
        Start no further task; in-flight attempts continue.
        """
        self.context.paused = True
        self.loop.publish_status()

    @pause.validator
    def _may_pause(self) -> None:
        self._require_open()
        if self.context.paused:
            raise ValueError("the mission is paused already")

    @workflow.update
    async def unpause(self) -> None:
        self.context.paused = False
        self.loop.publish_status()

    @unpause.validator
    def _may_unpause(self) -> None:
        self._require_open()
        if not self.context.paused:
            raise ValueError("the mission is not paused")

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the mission: cancel in-flight attempts, keep the results so far.
        """
        self.context.cancelled = True
        self.context.stopped = one_line(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        self._require_open()

    @workflow.update
    async def approve(self, decision: DecisionInput) -> None:
        self.context.approvals.decide(decision, True)

    @approve.validator
    def _may_approve(self, decision: DecisionInput) -> None:
        self._require_open()
        self.context.approvals.require_pending(decision)

    @workflow.update
    async def reject(self, decision: DecisionInput) -> None:
        self.context.approvals.decide(decision, False)

    @reject.validator
    def _may_reject(self, decision: DecisionInput) -> None:
        self._require_open()
        self.context.approvals.require_pending(decision)

    @workflow.update
    async def redrive(self, redrive: Redrive) -> None:
        """
        Run dead-lettered tasks again, each from its last checkpoint.
        """
        self.context.redrive_checkpoints.update(redrive.checkpoints)
        await self.loop.tasks.redo(redrive.tasks, "redriven")

    @redrive.validator
    def _may_redrive(self, redrive: Redrive) -> None:
        self._require_open()
        plan = self.context.plan
        for task in redrive.tasks:
            if plan.reopening or not plan.is_dead(task):
                raise ValueError(f"task {task!r} has not been given up")

    @workflow.update
    async def reroute(self, unserved: UnservedTasks) -> None:
        """
        Withdraw tasks from queues without a live worker.
        """
        for execution in self.loop.tasks.executions:
            execution.apply_reroute(unserved)
        self.loop.publish_status()

    @reroute.validator
    def _may_reroute(self, unserved: UnservedTasks) -> None:
        # Refused where nothing changes: a refused update leaves no event in the
        # history.
        executions = self.loop.tasks.executions
        actions = {each.reroute_action(unserved) for each in executions}
        if actions <= {RerouteAction.KEEP}:
            raise ValueError("it changes nothing")

    @workflow.signal
    async def child_ended(self, child: str) -> None:
        self.context.children.note_end(child)
