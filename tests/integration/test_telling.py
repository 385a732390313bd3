"""
What missions tell of themselves through workflows and activities: spans and counts.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from small_crew import Crew, ended, task
from span_fakes import Kept, kept
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from outlast import Context, FanOut, GiveUp
from outlast.contracts.errors import ParkedError
from outlast.contracts.failures import Detector
from outlast.contracts.progress import MissionProgress
from outlast.contracts.reports import MissionStatus
from outlast.execution.attempt import FAILED_BEFORE
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.metrics import MetricsOutbox
from outlast.fleet.workers import AgentWorkers
from outlast.ledger.effect_records import EffectRecords
from outlast.ledger.ledger import Ledger
from outlast.settings import Settings
from outlast.telemetry.process import (
    DEAD_ITEMS,
    DEAD_TASKS,
    HEARTBEATS,
    PARKED,
    Counters,
    telemetry,
)
from outlast.telemetry.temporal_tracing import TemporalTracing
from outlast.workflows.supervisor import SupervisorWorkflow

Input = dict[str, Any]


@pytest.fixture
def outbox() -> Iterator[MetricsOutbox]:
    made = MetricsOutbox()
    telemetry.counters = made
    yield made
    telemetry.counters = Counters()


@pytest.fixture
def told() -> Iterator[Kept]:
    with kept() as made:
        yield made


@pytest.fixture
def traced(small_crew: Crew, told: Kept) -> Crew:
    """
    The crew with a client as telemetry makes it.
    """
    config = small_crew.client.config()
    config["interceptors"] = [TemporalTracing(told.ours)]
    small_crew.client = Client(**config)
    return small_crew


async def spread(given: Input, ctx: Context) -> FanOut:
    return FanOut(role="item", items=[{"n": 1}, {"n": 2}])


async def test_a_mission_is_one_trace(traced: Crew, told: Kept) -> None:
    """
    From the starter through the workflow to the agent, and through a batch that it
    has spread to that batch's effects; a query is nobody's news.
    """

    async def item(given: Input, ctx: Context) -> Any:
        if given["n"] == 2:
            return await ctx.once("effect", lambda key: 2, content=None)
        return 1

    traced.plays("spread", spread)
    traced.plays("item", item)
    place = WorkerContext(Ledger(traced.store))
    workers = AgentWorkers(traced.client, place, Settings(drain_grace_s=0))
    leases = workers.leases(traced.agents["item"])
    with told.theirs.start_as_current_span("mission"):
        async with traced.at_work(), leases:
            handle = await traced.start(traced.mission(task("t", "spread")))
            await handle.query("progress", result_type=MissionProgress)
            report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED
    assert told.line("invoke_agent spread") == [
        "RunActivity:spread",
        "StartActivity:spread",
        "StartWorkflow:Supervisor",
        "mission",
    ]
    above_the_lease = told.line("ctx.once")
    assert above_the_lease[0].startswith("RunActivity:")
    assert above_the_lease[2:] == [
        "StartChildWorkflow:Pool",
        "StartWorkflow:Supervisor",
        "mission",
    ]
    assert told.attributes(above_the_lease[0])["outlast.mission"] == "m~fanout~t"
    assert not [name for name in told.names if "Query" in name]
    every = told.memory.get_finished_spans()
    assert len({each.context.trace_id for each in every}) == 1
    (effect,) = EffectRecords(traced.store).records("m")
    assert (effect.scope, effect.turn) == ("m~task~t", "1.1")  # not that of any batch


async def test_a_traced_mission_replays_without_traces(
    traced: Crew, told: Kept
) -> None:
    """
    Telemetry may be switched off in mid-mission: its headers are no decision.
    """

    async def well(given: Input, ctx: Context) -> str:
        return "well"

    traced.plays("well", well)
    with told.theirs.start_as_current_span("mission"):
        async with traced.at_work():
            handle = await traced.start(traced.mission(task("t", "well")))
            await ended(handle)
    history = await handle.fetch_history()
    assert "_tracer-data" in history.to_json()
    plain = Replayer(
        workflows=[SupervisorWorkflow],
        workflow_runner=UnsandboxedWorkflowRunner(),
        data_converter=pydantic_data_converter,
    )
    assert (await plain.replay_workflow(history)).replay_failure is None


async def test_every_attempt_is_told_apart(traced: Crew, told: Kept) -> None:
    """
    A retry is a span of its own below the same decision, and says that it is one.
    """

    async def fails_once(given: Input, ctx: Context) -> str:
        if ctx.attempt == 1:
            raise RuntimeError("once")
        return "well"

    traced.plays("flaky", fails_once)
    with told.theirs.start_as_current_span("mission"):
        await traced.run(task("t", "flaky"))

    first, second = (
        dict(each.attributes or {})
        for each in told.memory.get_finished_spans()
        if each.name == "RunActivity:flaky"
    )
    assert (first["outlast.attempt"], second["outlast.attempt"]) == (1, 2)
    assert "outlast.detected_by" not in first
    assert second["outlast.detected_by"] == "failure"
    assert second["outlast.previous_failure"] == FAILED_BEFORE


async def test_without_a_starters_trace_a_workflow_tells_nothing(
    traced: Crew, told: Kept
) -> None:
    """
    Nothing of it would have a parent after a replay; each attempt is then a trace of
    its own.
    """

    async def well(given: Input, ctx: Context) -> str:
        return "well"

    traced.plays("well", well)
    config = traced.client.config()
    plain = Client(**{**config, "interceptors": []})
    async with traced.at_work():
        traced.client = plain
        handle = await traced.start(traced.mission(task("t", "well")))
        await ended(handle)
    assert "RunActivity:well" in told.names
    assert told.line("invoke_agent well") == ["RunActivity:well"]
    assert not [name for name in told.names if "Workflow" in name]


async def test_what_ends_badly_is_counted(
    small_crew: Crew, outbox: MetricsOutbox
) -> None:
    """
    Retries after a failure, parked tasks, dead ones; whoever is well is in no count
    but that of the beats.
    """

    async def fails_once(given: Input, ctx: Context) -> str:
        if ctx.attempt == 1:
            raise RuntimeError("once")
        return "well"

    async def hopeless(given: Input, ctx: Context) -> str:
        raise GiveUp("hopeless")

    async def unsure(given: Input, ctx: Context) -> str:
        raise ParkedError("did it happen?")

    for play in (fails_once, hopeless, unsure):
        small_crew.plays(play.__name__, play)
    await small_crew.run(
        task("a", "fails_once"), task("b", "hopeless"), task("c", "unsure")
    )

    said = outbox.drain()
    assert said is not None
    assert said.counts.pop(HEARTBEATS) > 0
    assert said.counts == {DEAD_TASKS: 1, PARKED: 1}
    # On a crowded machine a heartbeat may be lost besides.
    (after_s,) = [s for by, s in said.recovered if by is Detector.FAILURE]
    assert 0 < after_s < 30


async def test_dead_items_are_counted(small_crew: Crew, outbox: MetricsOutbox) -> None:
    """
    Each item that was given up, once.
    """

    async def item(given: Input, ctx: Context) -> int:
        if given["n"] == 2:
            raise GiveUp("not this one")
        return 1

    small_crew.plays("spread", spread)
    small_crew.plays("item", item)
    place = WorkerContext(Ledger(small_crew.store))
    workers = AgentWorkers(small_crew.client, place, Settings(drain_grace_s=0))
    leases = workers.leases(small_crew.agents["item"])
    async with leases:
        report = await small_crew.run(task("t", "spread"))

    assert report.status is MissionStatus.DEGRADED
    said = outbox.drain()
    assert said is not None
    assert said.counts[DEAD_ITEMS] == 1
