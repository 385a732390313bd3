"""
Missions that began under an earlier build go on under this one.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from span_fakes import kept
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Interceptor, Replayer

from outlast.contracts.models import Mission, Report
from outlast.contracts.pool import BatchReport, PoolState
from outlast.fleet.child import runner
from outlast.runtime.tracing import Tracing
from workflows.pool import PoolWorkflow
from workflows.supervisor import SupervisorWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def replayer(*kinds: type, interceptors: Sequence[Interceptor] = ()) -> Replayer:
    return Replayer(
        workflows=list(kinds),
        workflow_runner=runner(),
        data_converter=pydantic_data_converter,
        interceptors=interceptors,
    )


def history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.stem, path.read_text())


def test_every_path_of_a_mission_is_recorded() -> None:
    """
    A path without a history could change unnoticed.
    """
    recorded = {path.stem for path in HISTORIES}
    assert recorded >= {
        "cancelled",
        "death",
        "failures",
        "follow-ups",
        "graph",
        "parked",
        "paused",
        "pool-death",
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_mission_replays(path: Path) -> None:
    """
    Today's workflow decides as the one that was recorded.
    """
    both = replayer(SupervisorWorkflow, PoolWorkflow)
    result = await both.replay_workflow(history(path))
    assert result.replay_failure is None


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_traces_change_no_decision(path: Path) -> None:
    """
    What was recorded without them replays with them, and is not told once more.
    """
    with kept() as told:
        tracing = Tracing(told.ours, always_create_workflow_spans=True)
        both = replayer(SupervisorWorkflow, PoolWorkflow, interceptors=[tracing])
        result = await both.replay_workflow(history(path))
    assert result.replay_failure is None
    assert told.names == []


@workflow.defn(name="Supervisor", sandboxed=False)
class Reordered(SupervisorWorkflow):
    """
    A bad deploy: one more step, unversioned.
    """

    @workflow.run
    async def run(self, mission: Mission) -> Report:
        await workflow.sleep(1)
        return await super().run(mission)


async def test_a_changed_step_is_noticed() -> None:
    """
    The check above goes red when a step is added.
    """
    graph = next(path for path in HISTORIES if path.stem == "graph")
    with pytest.raises(workflow.NondeterminismError):
        await replayer(Reordered).replay_workflow(history(graph))


@workflow.defn(name="Pool", sandboxed=False)
class Restless(PoolWorkflow):
    """
    The same of the pool.
    """

    @workflow.run
    async def run(self, state: PoolState) -> BatchReport:
        await workflow.sleep(1)
        return await super().run(state)


async def test_a_changed_step_of_the_pool_is_noticed() -> None:
    """
    The check goes red for batches too.
    """
    death = next(path for path in HISTORIES if path.stem == "pool-death")
    with pytest.raises(workflow.NondeterminismError):
        await replayer(Restless).replay_workflow(history(death))
