"""
The tasks of a mission in flight, and the redo of tasks that are rejected or redriven.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from temporalio import workflow

from outlast.contracts.errors import BadInputError
from outlast.contracts.prior_run import TaskState
from outlast.contracts.reports import Outcome, TaskStatus, outcome_without_attempt
from outlast.contracts.results import RedoRequest
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.workflows.cancellation import raise_if_cancelling
from outlast.workflows.mission_context import MissionContext
from outlast.workflows.task_execution import TaskExecution

# What awaiting a task's ending may raise instead of returning an outcome.
TASK_ENDS = (Exception, asyncio.CancelledError)


class RunningTasks:
    """
    The tasks in flight. An error in this bookkeeping becomes a *fault*, which ends the
    mission: nothing awaits the exception of a task of asyncio's.
    """

    def __init__(self, context: MissionContext) -> None:
        self.fault: Exception | None = None
        self._context = context
        self._running: dict[str, tuple[TaskExecution, asyncio.Task[None]]] = {}
        self._redoing: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def executions(self) -> list[TaskExecution]:
        return [execution for execution, _ in self._running.values()]

    @property
    def states(self) -> dict[str, TaskState]:
        return {each.task.id: each.state for each in self.executions}

    @property
    def is_redoing(self) -> bool:
        return bool(self._redoing)

    def start(self, task: Task, state: TaskState | None = None) -> None:
        self._context.plan.start(task)
        execution = TaskExecution(task, self._context, state)
        ending = asyncio.create_task(self._run(execution))
        self._running[task.id] = (execution, ending)

    async def end_all(self) -> None:
        await self._end(list(self._running))
        await asyncio.gather(*self._redoing, return_exceptions=True)

    async def abandon(self) -> None:
        """
        Cancel all tasks and wait until they have ended, whatever they raise and however
        often this is cancelled meanwhile.
        """
        endings = [ending for _, ending in self._running.values()]
        for each in endings:
            each.cancel()
        ended = asyncio.gather(*endings, *self._redoing, return_exceptions=True)
        while not ended.done():
            with suppress(asyncio.CancelledError):  # every task of it ends
                await asyncio.shield(ended)

    def redo(
        self, tasks: list[str], reason: str, asker: Task | None = None
    ) -> asyncio.Task[None]:
        """
        Redo *tasks* and all that depends on them. A task of its own does that: another
        redo may end the task that has asked for this one.
        """
        self._context.plan.hold_back(tasks)
        redoing = asyncio.create_task(self._redo(tasks, reason, asker))
        self._redoing[redoing] = None
        redoing.add_done_callback(self._redoing.pop)
        return redoing

    @contextmanager
    def recording_faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.fault = self.fault or error

    def raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def _end(self, tasks: Iterable[str]) -> None:
        ending = [self._running[task][1] for task in tasks if task in self._running]
        for each in ending:
            each.cancel()
        for found in await asyncio.gather(*ending, return_exceptions=True):
            if isinstance(found, BaseException) and not isinstance(found, TASK_ENDS):
                raise found  # else an evicted workflow would wait for ever

    async def _redo(self, tasks: list[str], reason: str, asker: Task | None) -> None:
        """
        End what depends on *tasks* and begin a new round of *tasks* and all of that.
        """
        plan = self._context.plan
        with self.recording_faults():
            await self._end(sorted(plan.downstream_of(tasks)))
            stopped = self._context.stopped
            if not stopped:
                plan.reopen(tasks, reason)
            elif asker is not None:
                plan.record(outcome_without_attempt(asker, TaskStatus.SKIPPED, stopped))
            plan.release(tasks)

    async def _run(self, execution: TaskExecution) -> None:
        with self.recording_faults():
            outcome = await self._outcome(execution)
            del self._running[execution.task.id]
            if outcome is not None:
                self._context.plan.record(outcome)
            self._context.publish()

    async def _outcome(self, execution: TaskExecution) -> Outcome | None:
        """
        Await the end of a task; None when it is redone.
        """
        task = execution.task
        try:
            outcome = await execution.run()
            if execution.redo_request is None or not outcome.has_result:
                return outcome
            raise_if_cancelling()  # another task's redo may have ended this one
        except asyncio.CancelledError:
            why = self._context.stopped or "cancelled"
            return outcome_without_attempt(task, TaskStatus.SKIPPED, why)
        except workflow.NondeterminismError:
            raise
        except Exception as error:
            # A fault of ours must not leave a task undecided.
            workflow.logger.exception("task.not_ended")
            why = one_line(repr(error), CAUSE_CHARS)
            return outcome_without_attempt(task, TaskStatus.DEAD, why)
        return self._rejected(task, execution.redo_request, outcome)

    def _rejected(
        self, task: Task, request: RedoRequest, outcome: Outcome
    ) -> Outcome | None:
        """
        Redo the task that *task* has rejected, and *task* with it. Past the limit, use
        its result as degraded, or park it for a person.
        """
        plan = self._context.plan
        told = f"{request.task} rejected: {one_line(request.reason, CAUSE_CHARS)}"
        try:
            allowed = plan.request_redo(task.id, request.task)
        except BadInputError as error:
            return _ended(outcome, TaskStatus.DEAD, f"its redo: {error}")
        if allowed:
            self.redo([request.task], told, asker=task)
            return None
        status = TaskStatus.DEGRADED if request.has_result else TaskStatus.PARKED
        return _ended(outcome, status, f"{told} (round {plan.round(request.task)})")


def _ended(outcome: Outcome, status: TaskStatus, reason: str) -> Outcome:
    changes = {"status": status, "reasons": [*outcome.reasons, reason]}
    return outcome.model_copy(update=changes)
