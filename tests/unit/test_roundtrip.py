"""
What one attempt saves the next one resumes, and what one agent returns the next one
gets, through the ledger.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr
from pydantic.alias_generators import to_camel
from unit_fakes import MISSION, Stage, contents

from outlast.agents.context import Context
from outlast.contracts.errors import CheckpointError, GiveUp, ResultError
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store


class BrokenError(Exception):
    """
    What the agents here raise.
    """


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int
    paid_lines: list[int] = Field(default=[])


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    at: datetime
    amount: Decimal
    raw: Json[list[int]]
    best: float
    png: bytes

    model_config["ser_json_bytes"] = "base64"
    model_config["val_json_bytes"] = "base64"


class Secret(BaseModel):
    token: SecretStr


CAMEL = Camel(orderId=1, paidLines=[1, 2])
STRICT = Strict(
    at=datetime(2026, 1, 2, tzinfo=UTC),
    amount=Decimal("1.10"),
    raw="[1, 2]",  # type: ignore[arg-type]
    best=float("inf"),
    png=b"\x89PNG\xff",
)
LARGE = Camel(orderId=1, paidLines=list(range(5_000)))


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor() as threads:
        yield Stage(ledger, threads)


@pytest.mark.parametrize(
    "value", [CAMEL, STRICT, LARGE], ids=["alias", "strict", "large"]
)
async def test_the_next_attempt_resumes_what_was_saved(
    stage: Stage, value: BaseModel
) -> None:
    async def play(given: dict[str, Any], ctx: Context) -> bool:
        before = await ctx.resume(type(value), value)
        await ctx.save(value)
        if ctx.attempt == 1:
            raise BrokenError
        return before == value

    with pytest.raises(BrokenError):
        await stage.play(play)
    await stage.play(play)
    assert stage.result() is True


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Secret, Secret(token=SecretStr("x")), "Secret.token"),
        (dict, {1: "paid"}, "[1]"),
        (dict, {"page": "caf\udce9"}, "page"),
    ],
)
async def test_what_would_be_lost_is_refused_as_it_is_saved(
    stage: Stage, store: Store, kind: Any, value: Any, said: str
) -> None:
    """
    By a final error that names the field; nothing is written.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.resume(kind, None)
        await ctx.save(value)

    with pytest.raises(CheckpointError) as refusal:
        await stage.play(play)
    assert isinstance(refusal.value, GiveUp)
    assert said in str(refusal.value)
    assert contents(store)["checkpoints"] == []


async def test_a_result_is_read_by_the_type_that_needs_it(stage: Stage) -> None:
    """
    Aliases, strict fields and inf reach the next agent as they were returned.
    """

    class Given(BaseModel):
        needs: dict[str, Camel | Strict]

    async def take(given: Given, ctx: Context) -> bool:
        return given.needs == {"camel": CAMEL, "strict": STRICT}

    take.__annotations__["given"] = Given  # made here, where names are not looked up
    await stage.play(lambda given, ctx: CAMEL, name="camel")
    await stage.play(lambda given, ctx: STRICT, name="strict")
    await stage.play(take, name="taker", needs=["camel", "strict"])
    assert stage.result("taker") is True


async def test_inf_reaches_an_agent_that_takes_a_dict(stage: Stage) -> None:
    async def take(given: dict[str, Any], ctx: Context) -> bool:
        return bool(given["needs"]["one"] == {"best": float("inf")})

    await stage.play(lambda given, ctx: {"best": float("inf")}, name="one")
    await stage.play(take, name="taker", needs=["one"])
    assert stage.result("taker") is True


@pytest.mark.parametrize(
    "value",
    [Secret(token=SecretStr("x")), {1: 2}, {"text": "caf\udce9"}, {"png": b"\xff"}],
    ids=["secret", "int key", "surrogate", "bytes"],
)
async def test_a_result_that_would_be_lost_is_final(stage: Stage, value: Any) -> None:
    """
    It is paid for: another try is paid for as well.
    """
    with pytest.raises(ResultError) as refusal:
        await stage.play(lambda given, ctx: value)
    assert isinstance(refusal.value, GiveUp)
    assert refusal.value.kind == "GiveUp"
    assert stage.ledger.result(MISSION, "only") is None


async def test_nul_is_kept_on_both_databases(stage: Stage) -> None:
    """
    PostgreSQL has no NUL in text; in JSON it is written otherwise.
    """
    text = "a\0b"

    async def play(given: dict[str, Any], ctx: Context) -> dict[str, str]:
        before = await ctx.resume(dict[str, str], {})
        await ctx.save({"page": text})
        if ctx.attempt == 1:
            raise BrokenError
        return {**before, "summary": text}

    with pytest.raises(BrokenError):
        await stage.play(play)
    answer = await stage.play(play)
    assert stage.result() == {"page": text, "summary": text}
    assert "\0" not in answer.summary or answer.summary == text
