"""
Conversations with a scripted model: saved step by step, mended twice, bounded.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel
from span_fakes import kept
from unit_fakes import Stage

from outlast import Context, GiveUp, TryLater, testing
from outlast.agents.agent import Agent
from outlast.contracts.errors import (
    BudgetExceededError,
    CheckpointError,
    CircuitOpenError,
    ServiceError,
    TaskError,
)
from outlast.contracts.tasks import Limits
from outlast.crew.llm.prompt import Prompt, ask_model
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from testkit.fake_model_server import (
    BEHAVIOURS,
    TOKENS,
    Behaviour,
    FakeModelServer,
    ModelRequest,
    ToolCall,
)

MODEL = "openai-chat:scripted"
SILENCE_S = 0.4
BOUND_S = 20.0


class Sum(BaseModel):
    total: int


def counting(asked: ModelRequest) -> list[ToolCall]:
    """
    Nine calls of a tool, the third and sixth of which act, then the answer.
    """
    if asked.turn == 10:
        return [ToolCall("final_result", {"total": len(asked.texts)})]
    tool = "pay" if asked.turn in (3, 6) else "look"
    return [ToolCall(tool, {"number": asked.turn})]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModelServer]:
    with FakeModelServer(counting) as made:
        monkeypatch.setenv("OPENAI_BASE_URL", made.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OUTLAST_MODEL", MODEL)
        yield made


class Order(BaseModel):
    bill: str = "bill"


def counter(acts: list[str], before: Callable[[int], None] = lambda _: None) -> Agent:
    """
    An agent that counts with a model, and whose tool has an effect; *before* comes
    before that.
    """

    async def play(order: Order, ctx: Context) -> Sum:
        async def look(number: int) -> str:
            acts.append(f"look {number}")
            return "seen"

        async def pay(number: int) -> str:
            before(number)
            paid: str = await ctx.once(
                f"{order.bill}:{number}", lambda _: "paid", content=None
            )
            return paid

        thought = Prompt("Count.", "How many?", Sum, (look, pay))
        return await ask_model(thought, ctx)

    return Agent("counter.model", 1, play)


async def test_a_conversation_ends_with_what_was_asked_for(
    service: FakeModelServer,
) -> None:
    """
    Ten answers, each saved, each followed by what its tools said; two effects.
    """
    ended = await testing.run(counter([]), Order())
    assert ended.result == {"total": 9}
    assert ended.effects == ["bill:3", "bill:6"]
    assert len(service.calls) == 10
    assert ended.saves == 19


@pytest.mark.parametrize("save", [1, 5, 6, 12, 19])
async def test_wherever_it_is_killed_nothing_is_asked_twice(
    service: FakeModelServer, save: int
) -> None:
    """
    After answers and after their tools: the next attempt asks what was not answered
    yet, and each effect happens once.
    """
    ended = await testing.run(counter([]), Order(), kill_after=save)
    assert ended.result == {"total": 9}
    assert sorted(ended.effects) == ["bill:3", "bill:6"]
    assert [each.asked.turn for each in service.calls] == list(range(1, 11))


async def test_the_decision_is_saved_before_its_tools_act(
    service: FakeModelServer, ledger: Ledger
) -> None:
    """
    An attempt that ends between the third answer and its payment: the next one pays
    what was decided and does not ask again.
    """

    def dies(number: int) -> None:
        raise TimeoutError("the payment service is away")

    with ThreadPoolExecutor() as threads:
        stage = Stage(ledger, threads)
        with pytest.raises(TimeoutError, match="away"):
            await stage.play(counter([], dies).func, role="counter.model")
        assert len(service.calls) == 3
        await stage.play(counter([]).func, role="counter.model")
    assert [each.asked.turn for each in service.calls] == list(range(1, 11))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_each_misbehaviour_ends_within_a_bound(
    service: FakeModelServer, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With the answer, or with the word that decides how its task goes on.
    """
    service.misbehave(behaviour)
    if behaviour in ("hang", "stall"):  # others may be slow on a crowded machine
        monkeypatch.setenv("OUTLAST_MODEL_SILENCE_S", str(SILENCE_S))
    began = time.monotonic()
    expected: dict[Behaviour, type[TaskError]] = {
        "429": TryLater,
        "500": ServiceError,
        "hang": ServiceError,
        "reset": ServiceError,
        "stall": ServiceError,
        "garbage": GiveUp,
        "schema": GiveUp,
        "empty": GiveUp,
    }
    if behaviour in expected:
        with pytest.raises(expected[behaviour]) as raised:
            await testing.run(counter([]), Order())
        assert "\n" not in str(raised.value)[:100]
    else:
        assert (await testing.run(counter([]), Order())).result == {"total": 9}
    assert time.monotonic() - began < BOUND_S


async def test_a_pause_that_was_asked_for_is_the_delay(
    service: FakeModelServer,
) -> None:
    """
    `Retry-After` is when the next attempt begins.
    """
    service.misbehave("429")
    with pytest.raises(TryLater) as later:
        await testing.run(counter([]), Order())
    assert later.value.after.total_seconds() == 1.0


async def test_the_client_tries_nothing_twice(service: FakeModelServer) -> None:
    """
    One layer retries, and it is not this one: one call for one attempt.
    """
    for behaviour in ("500", "429", "reset"):
        service.misbehave(behaviour)
        before = len(service.calls)
        with pytest.raises(TaskError):
            await testing.run(counter([]), Order())
        assert len(service.calls) == before + 1


async def test_a_wrong_answer_is_mended_at_most_twice(service: FakeModelServer) -> None:
    """
    The first answer and two more, over all attempts; then the next route.
    """
    service.misbehave("schema")
    with pytest.raises(GiveUp):
        await testing.run(counter([]), Order())
    assert len(service.calls) == 3
    service.calls.clear()
    with pytest.raises(GiveUp):
        await testing.run(counter([]), Order(), kill_after=2)
    assert len(service.calls) == 3


async def test_a_sick_model_is_left_alone(service: FakeModelServer) -> None:
    """
    After three failures it is not called, whoever asks.
    """
    service.misbehave("500")

    async def play(order: Order, ctx: Context) -> Sum:
        thought = Prompt("Count.", "How many?", Sum, ())
        for _ in range(3):
            with pytest.raises(ServiceError):
                await ask_model(thought, ctx)
        return await ask_model(thought, ctx)

    with pytest.raises(CircuitOpenError, match=f"{MODEL} is away since"):
        await testing.run(Agent("counter.model", 1, play), Order())
    assert len(service.calls) == 3


class Mortal(Ledger):
    """
    A ledger that kills its caller right after the save *dies*.
    """

    dies = 0

    def save(self, *args: Any) -> Any:
        spent = super().save(*args)
        self.dies -= 1
        if self.dies == 0:
            raise testing.KilledAgent
        return spent


@pytest.mark.parametrize("save", [1, 6, 7, 19])
async def test_tokens_are_counted_once(
    service: FakeModelServer, store: Store, save: int
) -> None:
    """
    What the service says each answer has cost, wherever the kill comes.
    """
    ledger = Mortal(store)
    ledger.dies = save
    with ThreadPoolExecutor() as threads:
        stage = Stage(ledger, threads)
        with pytest.raises(testing.KilledAgent):
            await stage.play(counter([]).func, role="counter.model")
        await stage.play(counter([]).func, role="counter.model")
        used = ledger.record_usage(stage.overtake(), 0, 0.0)
    assert used.task.tokens == 10 * TOKENS


async def test_a_spent_budget_asks_no_model(
    service: FakeModelServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The answer that passes the limit is the last: no other route asks for more.
    """
    monkeypatch.setenv("OUTLAST_FALLBACK_MODEL", MODEL)
    limits = Limits(tokens=TOKENS + 1)
    with ThreadPoolExecutor() as threads:
        stage = Stage(ledger, threads, limits=limits)
        for route in ("counter.model", "counter.fallback-model"):
            with pytest.raises(BudgetExceededError):
                await stage.play(counter([]).func, role=route)
    assert len(service.calls) == 2


async def test_a_conversation_that_cannot_be_read_is_not_guessed_at(
    service: FakeModelServer, ledger: Ledger
) -> None:
    """
    No attempt can mend what another release of pydantic-ai has written: the next route.
    """
    with ThreadPoolExecutor() as threads:
        stage = Stage(ledger, threads)

        async def elsewhere(order: Order, ctx: Context) -> None:
            await ctx.save({"messages": [{"kind": "telepathy"}]})
            raise OSError("killed")

        with pytest.raises(OSError, match="killed"):
            await stage.play(elsewhere, role="counter.model")
        with pytest.raises(CheckpointError, match="cannot be read"):
            await stage.play(counter([]).func, role="counter.model")
    assert service.calls == []


async def test_a_model_that_was_not_named_is_the_next_routes(
    service: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A route without its model gives up at once, as does one with a model of no sort.
    """
    monkeypatch.setenv("OUTLAST_MODEL", "nobody:nothing")
    with pytest.raises(GiveUp, match="cannot be used"):
        await testing.run(counter([]), Order())
    monkeypatch.delenv("OUTLAST_MODEL")
    with pytest.raises(GiveUp, match="OUTLAST_MODEL"):
        await testing.run(counter([]), Order())


async def test_tools_are_those_that_were_given(
    service: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A model that calls what it was not given is told so, twice, and acts on nothing.
    """

    def wild(asked: ModelRequest) -> Any:
        return [ToolCall("publish", {"path": "/tmp/elsewhere"})]

    service.script = wild
    ended = counter([])
    with pytest.raises(GiveUp):
        await testing.run(ended, Order())
    assert len(service.calls) == 3


async def test_each_question_is_a_span(service: FakeModelServer) -> None:
    """
    In the conventions' names: who was asked, which model answered, and its tokens.
    """
    with kept() as told:
        await testing.run(counter([]), Order())
    asked = [
        dict(each.attributes or {})
        for each in told.memory.get_finished_spans()
        if each.name == "chat scripted"
    ]
    assert len(asked) == 10
    assert asked[0] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai-chat",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted",
        "gen_ai.usage.input_tokens": TOKENS - TOKENS // 3,
        "gen_ai.usage.output_tokens": TOKENS // 3,
    }
