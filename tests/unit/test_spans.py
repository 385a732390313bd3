"""
What an attempt tells as spans, and that an agent's own come below them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from span_fakes import Kept, kept
from unit_fakes import MISSION, ROLE, TENANT, Stage

from outlast.agents.agent import Agent
from outlast.agents.context import Context
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import ParkedError
from outlast.contracts.failures import Detector
from outlast.contracts.tasks import Task
from outlast.execution.attempt import Attempt
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.ledger import Ledger
from outlast.telemetry import semconv

CALL = f"invoke_agent {ROLE}"


class BrokenError(Exception):
    """
    What an agent raises.
    """


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor() as threads:
        yield Stage(ledger, threads)


@pytest.fixture
def told() -> Iterator[Kept]:
    with kept() as made:
        yield made


async def test_an_agents_call_is_a_span(stage: Stage, told: Kept) -> None:
    """
    It says whose attempt it is, and in the conventions' names which agent is called.
    """
    with told.theirs.start_as_current_span("the activity's"):
        await stage.play(lambda given, ctx: 1)
    whose = {
        "outlast.mission": MISSION,
        "outlast.tenant": TENANT,
        "outlast.task": "only",
        "outlast.round": 1,
        "outlast.attempt": 1,
        "outlast.role": ROLE,
        "outlast.resumed_seq": 0,
    }
    assert told.attributes("the activity's") == whose
    assert told.attributes(CALL) == {
        **whose,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": ROLE,
        "gen_ai.agent.version": "1",
    }
    assert told.above(CALL) == "the activity's"


async def test_what_an_agent_raises_is_its_calls_error(
    stage: Stage, told: Kept
) -> None:
    """
    The span fails with the words that the agent said.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        raise BrokenError("no luck")

    with pytest.raises(BrokenError):
        await stage.play(play)
    assert told.the(CALL).status.description == "BrokenError: no luck"


async def test_a_later_attempt_tells_what_it_goes_on_after(
    stage: Stage, told: Kept
) -> None:
    """
    From which save it resumed, what ended the one before, how long ago its last sign
    was.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save("one")
        await ctx.save("two")
        raise BrokenError

    with pytest.raises(BrokenError):
        await stage.play(play)
    told.memory.clear()
    task = Task(id="only", role=ROLE)
    again = AttemptInput(
        mission=MISSION,
        tenant=TENANT,
        task=task,
        previous_failure="a test",
        detected_by=Detector.WATCHDOG,
    )
    agent = Agent(ROLE, 1, lambda given, ctx: 1)
    await Attempt(agent, again, 9, WorkerContext(stage.ledger, stage.threads)).run([])

    said = told.attributes(CALL)
    assert said["outlast.attempt"] == 2
    assert said["outlast.resumed_seq"] == 2
    assert said["outlast.previous_failure"] == "a test"
    assert said["outlast.detected_by"] == "watchdog"
    assert 0 <= said["outlast.recovery_s"] < 60


async def test_an_effect_is_a_span(stage: Stage, told: Kept) -> None:
    """
    It says what had been known of the effect; the far side's own span is below it.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> int:
            with told.theirs.start_as_current_span("pay"):
                return 7

        return await ctx.once("refund:1", act, content=None)

    await stage.play(play, name="first")
    assert told.attributes("ctx.once") == {
        "outlast.task": "first",
        "outlast.effect": "refund:1",
        "outlast.effect_found": "new",
    }
    assert (told.above("pay"), told.above("ctx.once")) == ("ctx.once", CALL)

    told.memory.clear()
    await stage.play(play, name="second")
    assert told.attributes("ctx.once")["outlast.effect_found"] == "applied"
    assert "pay" not in told.names


async def test_a_parked_effect_is_an_error(stage: Stage, told: Kept) -> None:
    """
    Somebody must look: the trace shows where.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> None:
            raise BrokenError

        return await ctx.once("refund:1", act, content=None)

    with pytest.raises(BrokenError):
        await stage.play(play)
    told.memory.clear()
    with pytest.raises(ParkedError):
        await stage.play(play)
    assert told.attributes("ctx.once")["outlast.effect_found"] == "intended"
    assert "was begun" in str(told.the("ctx.once").status.description)


async def test_saves_and_spending_are_events(stage: Stage, told: Kept) -> None:
    """
    Each with its number, on the span in which the agent was.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save("one")
        await ctx.record_usage(tokens=3)
        await ctx.save("two")

    await stage.play(play)
    events = told.the(CALL).events
    assert [each.name for each in events] == [
        "ctx.saved",
        "ctx.usage_recorded",
        "ctx.saved",
    ]
    assert [dict(each.attributes or {}).get("outlast.seq") for each in events] == [
        1,
        None,
        2,
    ]


@pytest.mark.parametrize("plain", [True, False], ids=["in a thread", "in the loop"])
async def test_an_agents_own_spans_are_below_ours(
    stage: Stage, told: Kept, plain: bool
) -> None:
    """
    An async agent's, and those of a plain one in its thread, whose effects come back
    from the loop's to it.
    """

    def act(key: str) -> int:
        with told.theirs.start_as_current_span("act"):
            return 1

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        with told.theirs.start_as_current_span("mine"):
            return await ctx.once("it", act, content=None)

    def play_plainly(given: dict[str, Any], ctx: Context) -> Any:
        with told.theirs.start_as_current_span("mine"):
            return ctx.run_sync(ctx.once("it", act, content=None))

    await stage.play(play_plainly if plain else play)
    assert told.above("mine") == CALL
    assert told.above("ctx.once") == "mine"
    assert told.above("act") == "ctx.once"
    assert (
        len({each.context.trace_id for each in told.memory.get_finished_spans()}) == 1
    )


async def test_a_question_to_a_model_has_names(stage: Stage, told: Kept) -> None:
    """
    An agent that thinks with a model finds ours for its own span.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        asked = {semconv.OPERATION_NAME: semconv.CHAT, semconv.REQUEST_MODEL: "m-1"}
        with told.theirs.start_as_current_span("chat m-1", attributes=asked) as chat:
            chat.set_attribute(semconv.INPUT_TOKENS, 12)
            chat.set_attribute(semconv.OUTPUT_TOKENS, 3)

    await stage.play(play)
    assert told.attributes("chat m-1") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
    }


async def test_without_telemetry_nothing_is_told(stage: Stage) -> None:
    """
    The same attempt runs the same where nobody listens.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        await ctx.save("one")
        return await ctx.once("it", lambda key: key, content=None)

    await stage.play(play)
    assert stage.result() == f"{TENANT}~effect~{MISSION}~key~it"
