"""
The supervisor: run the plan, go on after every death, report what is lacking.

A task ends done, degraded, skipped, parked or dead, never undecided.
An agent's crash is never the supervisor's crash.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.models import (
        CAUSE_CHARS,
        MISSIONS_QUEUE,
        Answer,
        Assignment,
        Mission,
        Outcome,
        Progress,
        Report,
        Running,
        Spreading,
        Status,
        Task,
        shorten,
    )
    from outlast.contracts.plan import Plan, mission_status, settle
    from outlast.contracts.policies import (
        BACKOFF_CAP_S,
        BACKOFF_FIRST_S,
        SHIPPED,
    )
    from outlast.contracts.pool import Batch, BatchReport, PoolState
    from workflows.board import board
    from workflows.dispatch import Pursuit
    from workflows.verdict import Next, Verdict

STATUS = SearchAttributeKey.for_keyword("OutlastStatus")

# Closing the books waits for the store as long as it takes a person to mend it.
BOOKS_ATTEMPTS = 2_000
BOOKS_LIMIT = timedelta(seconds=30)


@workflow.defn(name="Supervisor")
class SupervisorWorkflow:
    """
    One mission, from plan to report.
    """

    @workflow.init
    def __init__(self, mission: Mission) -> None:
        self.mission = mission
        self.plan = Plan(mission)
        self.paused = False
        self.stopped: str | None = None
        self.cancelled = False
        self.running: dict[str, tuple[Running, asyncio.Task[None]]] = {}

    @workflow.run
    async def run(self, mission: Mission) -> Report:
        try:
            await self._carry_out()
        except asyncio.CancelledError:
            # Cancelled from outside: what is done is kept and reported all the same.
            self.cancelled = True
            while not self.plan.settled:
                await self._stop("cancelled")
        report = self._report()
        await self._close_books(report)
        return report

    @workflow.query
    def progress(self) -> Progress:
        return Progress(
            mission=self.mission.id,
            paused=self.paused,
            waiting=[task.id for task in self.plan.waiting],
            running=[running for running, _ in self.running.values()],
            settled=list(self.plan.outcomes.values()),
        )

    @workflow.update
    async def pause(self) -> None:
        """
        Start no further task; what runs goes on.
        """
        self.paused = True
        self._show()

    @pause.validator
    def _may_pause(self) -> None:
        self._must_be_open()
        if self.paused:
            raise ValueError("the mission is paused already")

    @workflow.update
    async def unpause(self) -> None:
        """
        Start tasks again.
        """
        self.paused = False
        self._show()

    @unpause.validator
    def _may_unpause(self) -> None:
        self._must_be_open()
        if not self.paused:
            raise ValueError("the mission is not paused")

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the mission: attempts under way are cancelled, what is done is kept.
        """
        self.cancelled = True
        self.stopped = shorten(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        self._must_be_open()

    def _must_be_open(self) -> None:
        if self.plan.settled or self.stopped:
            raise ValueError("the mission has ended")

    async def _carry_out(self) -> None:
        """
        Start what is ready until everything is settled, stopped or too late.
        """
        limit = timedelta(seconds=self.mission.limits.deadline_s)
        deadline = asyncio.create_task(workflow.sleep(limit, summary="deadline"))
        try:
            while not self.plan.settled:
                self._start_ready()
                await workflow.wait_condition(
                    lambda: self._can_go_on() or deadline.done()
                )
                if deadline.done():
                    self.stopped = f"the deadline of {limit} passed"
                if self.stopped:
                    await self._stop(self.stopped)
        finally:
            deadline.cancel()

    def _can_go_on(self) -> bool:
        return bool(self.plan.settled or self.stopped or self._startable())

    def _startable(self) -> list[Task]:
        free = self.mission.limits.concurrency - len(self.running)
        held = self.paused or self.stopped
        return [] if held else self.plan.ready()[: max(free, 0)]

    def _start_ready(self) -> None:
        for task in self._startable():
            self.plan.start(task)
            running = Running(id=task.id, role=task.role, route=task.role)
            self.running[task.id] = (running, asyncio.create_task(self._settle(task)))
        self._show()

    def _note_route(self, task: Task, route: str) -> None:
        running, settling = self.running[task.id]
        if running.route != route:
            rerouted = running.model_copy(update={"route": route})
            self.running[task.id] = (rerouted, settling)
            self._show()

    async def _stop(self, reason: str) -> None:
        """
        Cancel what runs, wait until it has ended, and skip the rest.
        """
        self.stopped = reason
        self.plan.stop(reason)
        settling = [settling for _, settling in self.running.values()]
        for each in settling:
            each.cancel()
        await asyncio.gather(*settling, return_exceptions=True)

    async def _settle(self, task: Task) -> None:
        """
        Bring *task* to its end, whatever that is, and note it on the board.
        """
        try:
            outcome = await self._try_routes(task)
        except asyncio.CancelledError:
            outcome = settle(task, Status.SKIPPED, self.stopped or "cancelled")
        except Exception as error:
            # A fault of ours must not leave a task undecided for ever.
            workflow.logger.exception("task.unsettled")
            outcome = settle(task, Status.DEAD, shorten(repr(error), CAUSE_CHARS))
        del self.running[task.id]
        self.plan.record(outcome)
        self._show()

    async def _try_routes(self, task: Task) -> Outcome:
        """
        Try *task* on each of its routes until one of them answers.
        """
        failures: list[str] = []
        for route in self.mission.crew[task.role].routes:
            self._note_route(task, route)
            ended = await self._pursue(task, route)
            if isinstance(ended, Answer):
                if ended.spread is not None:
                    failures += await self._work_through(ended.spread)
                return self._answered(task, route, ended, failures)
            last = ended
            if self.stopped:
                # Whatever it raised while it was being ended, it was ended by us.
                return settle(task, Status.SKIPPED, self.stopped)
            failures.append(f"{route}: {shorten(last.cause, CAUSE_CHARS)}")
            if last.next is not Next.NEXT_ROUTE:
                break
        return _unanswered(task, route, last, failures)

    async def _pursue(self, task: Task, route: str) -> Answer | Verdict:
        assignment = Assignment(
            mission=self.mission.id,
            tenant=self.mission.tenant,
            task=task,
            store=self.mission.store,
            needs=self.plan.needs_of(task),
            policy=self.mission.crew[route].policy,
            limits=self.mission.limits,
        )
        return await Pursuit(assignment, route, lambda: self.stopped).run()

    async def _work_through(self, spread: Spreading) -> list[str]:
        """
        Have the pool work through what an agent has spread; returns what it lacks.
        """
        if spread.items == 0:
            return []
        if spread.role not in self.mission.crew:
            return [f"nothing was worked through: no agent plays {spread.role!r}"]
        batch = Batch(
            id=spread.batch,
            role=spread.role,
            tenant=self.mission.tenant,
            policy=self.mission.crew[spread.role].policy,
            store=self.mission.store,
        )
        report: BatchReport = await workflow.execute_child_workflow(
            "Pool",
            PoolState(batch=batch),
            id=batch.id,
            result_type=BatchReport,
            task_queue=MISSIONS_QUEUE,
            task_timeout=timedelta(seconds=SHIPPED.workflow_task_s),
            static_summary=f"{spread.items} items for {spread.role}",
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        if report.failed:
            return [f"the pool gave up: {report.failed}"]
        if not report.dead:
            return []
        told = f"starter.py dead-letters {batch.id}"
        return [f"{report.dead} of {report.items} items are dead letters: {told}"]

    def _answered(
        self, task: Task, route: str, answer: Answer, failures: list[str]
    ) -> Outcome:
        """
        Take the answer; follow-up tasks that do not fit make it a dead letter.
        """
        reasons = [*failures, *answer.degraded]
        status = Status.DEGRADED if reasons else Status.DONE
        try:
            self.plan.extend(answer.follow_ups)
        except BadInputError as error:
            status, reasons = Status.DEAD, [*reasons, f"its follow-up tasks: {error}"]
        return Outcome(
            id=task.id,
            role=task.role,
            route=route,
            status=status,
            attempts=answer.attempt,
            required=task.required,
            reasons=reasons,
            summary=answer.summary,
        )

    def _report(self) -> Report:
        outcomes = list(self.plan.outcomes.values())
        status = mission_status(outcomes)
        if self.cancelled and status is not Status.COMPLETED:
            status = Status.CANCELLED
        lacking = [
            f"{each.id}: {reason}"
            for each in outcomes
            if each.status is not Status.DONE
            for reason in each.reasons
        ]
        return Report(
            mission=self.mission.id, status=status, tasks=outcomes, degraded=lacking
        )

    async def _close_books(self, report: Report) -> None:
        """
        Write the end into the ledger, since the server's retention forgets.
        """
        closing = workflow.start_activity(
            "close_mission",
            report,
            task_queue=MISSIONS_QUEUE,
            summary=report.status,
            heartbeat_timeout=BOOKS_LIMIT,
            start_to_close_timeout=BOOKS_LIMIT,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=BACKOFF_FIRST_S),
                maximum_interval=timedelta(seconds=BACKOFF_CAP_S),
                maximum_attempts=BOOKS_ATTEMPTS,
            ),
        )
        while not closing.done():
            # Cancelling a mission that is ending already must not lose its report.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        closing.result()
        self._show(report.status)

    def _show(self, status: str = "running") -> None:
        """
        Draw the board; tag the mission where the server knows our search attribute.
        """
        workflow.set_current_details(board(self.progress()))
        shown = "paused" if self.paused and status == "running" else status
        tags = workflow.info().typed_search_attributes
        if tags.get(STATUS, shown) != shown:
            workflow.upsert_search_attributes([STATUS.value_set(shown)])


def _unanswered(task: Task, route: str, last: Verdict, failures: list[str]) -> Outcome:
    """
    End a task that no route has answered: dead, unless it was parked or cancelled.
    """
    status = {Next.PARK: Status.PARKED, Next.SKIP: Status.SKIPPED}.get(
        last.next, Status.DEAD
    )
    outcome = settle(task, status, *failures)
    return outcome.model_copy(update={"route": route, "attempts": last.attempts})
