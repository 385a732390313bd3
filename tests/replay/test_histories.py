"""
Missions that began under an earlier build go on under this one.
"""

import json

import pytest
from keep import FULL, kept, read
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.common import RawValue
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from outlast.contracts.batches import BatchReport
from outlast.contracts.reports import Report
from outlast.workflows import renewal
from outlast.workflows.entry import NOTHING
from outlast.workflows.pool import PoolWorkflow
from outlast.workflows.supervisor import SupervisorWorkflow

NAMES = list(kept())
SHIPPED = UnsandboxedWorkflowRunner()
MISSIONS = {
    "approved",
    "cancelled",
    "cancelled-from-outside",
    "convicted",
    "death",
    "failures",
    "follow-ups",
    "graph",
    "handed-on",
    "late",
    "parked",
    "paused",
    "quarantined",
    "redone",
    "rerouted",
    "spread",
    "tagged",
    "timed-out",
    "too-long",
    "tree",
}
RENEWED = {"renewed", "renewed-again"}
BATCHES = {
    "pool-cancelled",
    "pool-cancelled-from-outside",
    "pool-death",
    "pool-drained",
    "pool-failed",
    "pool-fed",
    "pool-renewed",
    "pool-renewed-again",
    "spread-batch",
}


async def replay(name: str, *kinds: type, runner: WorkflowRunner = SHIPPED) -> None:
    """
    Replay the kept history; raises where the workflow decides otherwise.
    """
    text = read(kept()[name])
    began = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    history = WorkflowHistory.from_json(began["workflowId"], text)
    replayer = Replayer(
        workflows=list(kinds),
        workflow_runner=runner,
        data_converter=pydantic_data_converter,
    )
    result = await replayer.replay_workflow(history)
    assert result.replay_failure is None


def test_every_path_is_recorded() -> None:
    """
    A path without a history could change unnoticed.
    """
    assert set(NAMES) >= MISSIONS | RENEWED | BATCHES


@pytest.fixture(autouse=True)
def full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A history is full as early as it was when it was recorded.
    """
    called = getattr(request.node, "callspec", None)
    if called is not None and called.params.get("name") in RENEWED:
        monkeypatch.setattr(renewal, "RENEW_EVENTS", FULL)


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_path_replays(name: str) -> None:
    """
    Today's workflow decides as the one that was recorded.
    """
    await replay(name, SupervisorWorkflow, PoolWorkflow)


@pytest.mark.parametrize("name", ["spread", "spread-batch"])
async def test_it_does_so_in_the_sandbox_too(name: str) -> None:
    """
    A mission and its batch: a worker of a user's own may have it, as is the SDK's rule.
    """
    sandbox = SandboxedWorkflowRunner()
    await replay(name, SupervisorWorkflow, PoolWorkflow, runner=sandbox)


@workflow.defn(name="Supervisor")
class Hesitant(SupervisorWorkflow):
    """
    A bad deploy: one more step before all others, unversioned.
    """

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> Report:
        await workflow.sleep(1)
        return await super().run(given)


@workflow.defn(name="Pool")
class Restless(PoolWorkflow):
    """
    The same of the pool.
    """

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> BatchReport:
        await workflow.sleep(1)
        return await super().run(given)


@pytest.mark.parametrize("name", NAMES)
async def test_a_further_step_is_noticed(name: str) -> None:
    """
    The check above goes red, whichever path it is.
    """
    with pytest.raises(workflow.NondeterminismError):
        await replay(name, Hesitant, Restless)


@workflow.defn(name="Supervisor")
class Forgetful(SupervisorWorkflow):
    """
    A bad deploy that shows at the very end: the books are not closed.
    """

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> Report:
        return await super().run(given)

    async def _record_closed(self, report: Report) -> None: ...


@pytest.mark.parametrize("name", sorted(MISSIONS))
async def test_a_step_that_is_missing_is_noticed(name: str) -> None:
    """
    Each history of a mission is kept to its end.
    """
    with pytest.raises(workflow.NondeterminismError):
        await replay(name, Forgetful)
