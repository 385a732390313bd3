"""
Child workflows, which outlive the run of a mission that has started them.

A run that continues as new is closed for the server: it would cancel its children and
drop their results. So the server leaves children running (`ParentClosePolicy.ABANDON`),
and a later run awaits them by the record of their end in the store and a signal to read
it. It never starts a child that the store knows.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
)

from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.reports import FinalReport
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.workflows.bookkeeping import start_bookkeeping
from outlast.workflows.cancellation import await_uncancelled
from outlast.workflows.renewal import Renewal

# The server signals nothing when a child is terminated. So its record is also polled,
# ever less often: a child may wait for a person for weeks.
FIRST_CHECK_S = 60.0
MAX_CHECK_S = 3_600.0


@dataclass(frozen=True)
class ChildRun:
    """
    A child workflow to start or to await.

    :param record: the activity that reads how it ended; None while it runs.
    :param known_by: tells its record from another one under the same id.
    """

    kind: str
    input: Any
    id: str
    result: type[FinalReport]
    record: str
    summary: str
    known_by: str = ""


class ChildRuns:
    """
    The children of one mission, whose run *renewal* may end.
    """

    def __init__(self, renewal: Renewal) -> None:
        self.renewal = renewal
        self._ended: dict[str, bool] = {}  # by child: whether its end was signalled

    def note_end(self, child: str) -> None:
        if child in self._ended:
            self._ended[child] = True

    async def run(self, child: ChildRun) -> Any:
        """
        Start *child*, unless an earlier run has, and return its report. When the
        mission is cancelled, cancel the child too and still await it.

        :raises FailureError: as the child failed, or because its end is unknown.
        """
        try:
            with self.renewal.busy():
                handle = await _start(child)
        except WorkflowAlreadyStartedError:
            return await self._recorded(child)
        try:
            return await handle
        except ChildWorkflowError as error:
            report = child.result.of_failure(error.cause)
            if report is None:
                raise
            return report

    async def _recorded(self, child: ChildRun) -> Any:
        pause_s = FIRST_CHECK_S
        while (found := await self._await_recorded(child)) is None:
            try:
                await workflow.wait_condition(
                    lambda: self._ended[child.id],
                    timeout=timedelta(seconds=pause_s),
                    timeout_summary=f"looks at {child.id}",
                )
            except TimeoutError:
                pause_s = min(2 * pause_s, MAX_CHECK_S)
            except asyncio.CancelledError:
                await _cancel(child)
                pause_s = FIRST_CHECK_S
        del self._ended[child.id]
        return found

    async def _await_recorded(self, child: ChildRun) -> Any:
        self._ended[child.id] = False
        looking = start_bookkeeping(
            child.record, child.id, child.known_by, summary=child.id
        )
        with self.renewal.busy():
            cancelled = await await_uncancelled(looking)
            if cancelled:
                await _cancel(child)
        found = looking.result()
        return None if found is None else child.result.model_validate(found)


async def _start(child: ChildRun) -> workflow.ChildWorkflowHandle[Any, Any]:
    return await workflow.start_child_workflow(
        child.kind,
        child.input,
        id=child.id,
        result_type=child.result,
        task_queue=MISSIONS_QUEUE,
        task_timeout=timedelta(seconds=DEFAULT_TIMING.workflow_task_s),
        static_summary=child.summary,
        cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
    )


async def _cancel(child: ChildRun) -> None:
    """
    Ask a child of an earlier run to cancel; it may have ended by now.
    """
    try:
        await workflow.get_external_workflow_handle(child.id).cancel()
    except FailureError:
        workflow.logger.info("child_run.gone", extra={"child": child.id})
