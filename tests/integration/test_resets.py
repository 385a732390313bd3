"""
A mission that is reset, or gone: its attempts are ordered by their runs first.
"""

import asyncio
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from small_crew import BOUND_S, Crew, task
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import WorkflowHandle

from outlast import Context
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import StaleAttemptError
from outlast.contracts.reports import MissionStatus, Report
from outlast.execution.run_order import current_run, in_run_order
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.audit import audit_ledger
from outlast.ledger.ledger import Ledger
from outlast.store.schema import attempts, runs

DONE = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


async def reset(crew: Crew, handle: WorkflowHandle[Any, Report]) -> str:
    """
    Reset the mission to its first decision; returns the new run.
    """
    history = await handle.fetch_history()
    first = next(each.event_id for each in history.events if each.event_type == DONE)
    known = WorkflowExecution(
        workflow_id=handle.id, run_id=handle.first_execution_run_id or ""
    )
    reset_ = await crew.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=crew.client.namespace,
            workflow_execution=known,
            reason="a test",
            workflow_task_finish_event_id=first,
            request_id="once",
        )
    )
    return reset_.run_id


async def claim_late(crew: Crew, mission: str, run: str) -> None:
    """
    Claim as an attempt of *run* does that comes late.
    """
    ledger = Ledger(crew.store)
    asked = AttemptInput(mission=mission, tenant="default", task=task("b", "slow"))
    ask = partial(current_run, crew.client, mission)
    order = AttemptOrder(run, 1_000, 1, ask)
    await in_run_order(
        ledger, order, mission, lambda: ledger.claim(asked, "slow", order)
    )


async def test_a_reset_mission_goes_on_from_the_ledger(lasting_crew: Crew) -> None:
    """
    Its dispatches are counted from the start again, in a later run; a late attempt of
    the run before is refused, and what was done is not done again.
    """
    crew, played = lasting_crew, []
    began, again = asyncio.Event(), asyncio.Event()

    async def quick(given: dict[str, Any], ctx: Context) -> str:
        played.append("a")
        return "done"

    async def slow(given: dict[str, Any], ctx: Context) -> str:
        began.set()
        await again.wait()
        return "done"

    crew.plays("quick", quick)
    crew.plays("slow", slow)
    async with crew.at_work(), asyncio.timeout(BOUND_S):
        asked = crew.mission(task("a", "quick"), task("b", "slow", needs=["a"]))
        handle = await crew.start(asked)
        await began.wait()
        old = handle.first_execution_run_id or ""
        new = await reset(crew, handle)
        began.clear()
        await began.wait()
        with pytest.raises(StaleAttemptError, match="later run"):
            await claim_late(crew, handle.id, old)
        again.set()
        report: Report = await crew.client.get_workflow_handle(
            handle.id, result_type=Report
        ).result()
        with pytest.raises(StaleAttemptError, match="nobody waits"):
            await claim_late(crew, handle.id, "another")
    assert report.status is MissionStatus.COMPLETED
    assert played == ["a"]
    assert audit_ledger(crew.store).violations == []
    with crew.store.read() as connection:
        found = connection.execute(sa.select(runs.c.run).order_by(runs.c.number))
        assert list(found.scalars()) == [old, new]
        last = sa.select(sa.func.max(attempts.c.fence)).where(attempts.c.task == "a")
        assert connection.scalar(last) == (2 << 42) + (1 << 12) + 1


async def test_an_attempt_of_a_deleted_mission_is_refused(lasting_crew: Crew) -> None:
    """
    The server knows no run of it, so nobody waits for what it does.
    """
    crew = lasting_crew
    handle = await crew.start(crew.mission(task("b", "slow")))
    known = WorkflowExecution(workflow_id=handle.id)
    request = DeleteWorkflowExecutionRequest(
        namespace=crew.client.namespace, workflow_execution=known
    )
    await crew.client.workflow_service.delete_workflow_execution(request)
    with pytest.raises(StaleAttemptError, match="nobody waits"):
        await claim_late(crew, handle.id, handle.first_execution_run_id or "")
