"""
What the server has under a mission's or batch's id, and the sentences on it.
"""

from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.contracts.reports import Report
from outlast.contracts.text import CAUSE_CHARS, one_line

# Workflows that are looked at in one list: the server's own page.
MAX_LISTED = 1000

OPEN_WORKFLOWS = f"TaskQueue = '{MISSIONS_QUEUE}' AND ExecutionStatus = 'Running'"

ENDED_OUTSIDE = "its workflow was ended in Temporal"
WORKFLOW_GONE = "its workflow is gone from Temporal"
ENDED_TEXT = {
    WorkflowExecutionStatus.TERMINATED: "its workflow was terminated in Temporal",
    WorkflowExecutionStatus.TIMED_OUT: "its workflow timed out in Temporal",
    WorkflowExecutionStatus.CANCELED: "its workflow was cancelled in Temporal",
    WorkflowExecutionStatus.FAILED: "its workflow failed in Temporal",
    WorkflowExecutionStatus.COMPLETED: "its workflow ended without a report",
}


@dataclass(frozen=True)
class WorkflowState:
    """
    What the server has under an id.

    :param status: of the latest run of its workflow; None where there is none.
    """

    status: WorkflowExecutionStatus | None
    run: str = ""

    @property
    def is_running(self) -> bool:
        return self.status is WorkflowExecutionStatus.RUNNING


async def running_in(client: Client) -> set[str]:
    """
    List what the server runs of missions and batches, a moment ago.

    :raises RPCError: when it does not answer.
    """
    listed = client.list_workflows(OPEN_WORKFLOWS, limit=MAX_LISTED)
    return {each.id async for each in listed}


async def workflow_state(handle: WorkflowHandle[Any, Any]) -> WorkflowState:
    """
    Ask the server for the latest run of a workflow.

    :raises RPCError: when it does not answer.
    """
    try:
        described = await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return WorkflowState(None)
        raise
    return WorkflowState(described.status, described.run_id or "")


async def fetched(client: Client, mission: str, run: str) -> Report | None:
    """
    Fetch the report with which a run has ended; None when it had another end.
    """
    handle: WorkflowHandle[Any, Report]
    handle = client.get_workflow_handle(mission, run_id=run, result_type=Report)
    try:
        return await handle.result(follow_runs=False)
    except WorkflowFailureError as error:
        return Report.of_failure(error.cause)
    except (RPCError, RuntimeError):  # its result is no report
        return None


async def why_ended(handle: WorkflowHandle[Any, Any], workflow: WorkflowState) -> str:
    """
    Say why a workflow does not run any more, with what its last event tells.
    """
    if workflow.status is None:
        return WORKFLOW_GONE
    told = ENDED_TEXT.get(workflow.status, "its workflow does not run any more")
    last = WorkflowHistoryEventFilterType.CLOSE_EVENT
    reason = ""
    try:
        async for event in handle.fetch_history_events(event_filter_type=last):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
                reason = event.workflow_execution_terminated_event_attributes.reason
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                failed = event.workflow_execution_failed_event_attributes
                reason = failed.failure.message
    except RPCError:
        pass
    return f"{told}: {one_line(reason, CAUSE_CHARS)}" if reason else told


def interrupted(mission: str, why: str) -> str:
    return (
        f"{mission} does not run: {why}; go on with it: outlast resume {mission}, "
        f"or end it for good: outlast abandon {mission}"
    )
