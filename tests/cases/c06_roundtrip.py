"""Progress saved before a failure and resumed by the next attempt."""

from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    TypeAdapter,
    computed_field,
)
from pydantic.alias_generators import to_camel

from outlast import Policy, Context, agent

FEW = Policy(failures=2)


async def again(ctx: Context, kind, value, default=None):
    """Save on the first attempt and raise; hand back what the second one resumes."""
    got = await ctx.resume(kind, default)
    if got is default:
        await ctx.save(value)
        raise RuntimeError("the service hiccuped")
    same = got == value
    return {"summary": f"same={same}: {got!r}"[:190]}


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int
    paid_lines: list[int] = Field(...)


@agent("c06-alias", policy=FEW)
async def alias(given: dict, ctx: Context):
    return await again(ctx, Camel, Camel(orderId=1, paidLines=[1, 2]))


class CamelOptional(BaseModel):
    paid: list[int] = Field(default=[], alias="paidLines")


@agent("c06-alias-default", policy=FEW)
async def alias_default(given: dict, ctx: Context):
    return await again(ctx, CamelOptional, CamelOptional(paidLines=[1, 2]))


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    amount: Decimal


@agent("c06-strict", policy=FEW)
async def strict(given: dict, ctx: Context):
    return await again(
        ctx,
        Strict,
        Strict(at=datetime(2026, 1, 2, tzinfo=timezone.utc), amount=Decimal("1.10")),
    )


class Shot(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    png: bytes


@agent("c06-base64", policy=FEW)
async def base64(given: dict, ctx: Context):
    return await again(ctx, Shot, Shot(png=b"\x89PNG\r\n\x00\xff"))


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cents: list[int]

    @computed_field
    @property
    def total(self) -> int:
        return sum(self.cents)


@agent("c06-computed", policy=FEW)
async def computed(given: dict, ctx: Context):
    return await again(ctx, Closed, Closed(cents=[1, 2]))


class Score(BaseModel):
    best: float = float("inf")
    found: str = ""


@agent("c06-inf", policy=FEW)
async def inf(given: dict, ctx: Context):
    return await again(ctx, Score, Score(found="x"))


@agent("c06-int-keys", policy=FEW)
async def int_keys(given: dict, ctx: Context):
    return await again(ctx, dict, {1: "paid", 2: "paid"})


class Raw(BaseModel):
    payload: Json[list[int]]


@agent("c06-json", policy=FEW)
async def json_field(given: dict, ctx: Context):
    return await again(ctx, Raw, Raw(payload="[1, 2]"))


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: set[str]


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    when: date


class Rich(BaseModel):
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]]
    colour: Colour
    price: Decimal
    point: Point
    pair: tuple[int, str]


@agent("c06-rich", policy=FEW)
async def rich(given: dict, ctx: Context):
    value = Rich(
        pets=[Cat(lives=9), Dog(tricks={"sit"})],
        colour=Colour.RED,
        price=Decimal("0.10"),
        point=Point(1.5, date(2026, 1, 2)),
        pair=(1, "a"),
    )
    return await again(ctx, Rich, value)


class WithSecret(BaseModel):
    token: SecretStr


@agent("c06-secret", policy=FEW)
async def secret(given: dict, ctx: Context):
    return await again(ctx, WithSecret, WithSecret(token="tok-123"))


class Animal(BaseModel):
    name: str


class Horse(Animal):
    height: int = 0


class Stable(BaseModel):
    animals: list[Animal]


@agent("c06-subclass", policy=FEW)
async def subclass(given: dict, ctx: Context):
    return await again(ctx, Stable, Stable(animals=[Horse(name="a", height=160)]))


# what an agent returns, as the input of the next one
@agent("c06-maker")
async def maker(given: dict, ctx: Context) -> Camel:
    return Camel(orderId=1, paidLines=[1, 2])


class Needs(BaseModel):
    needs: dict[str, Camel]


@agent("c06-taker")
async def taker(given: Needs, ctx: Context):
    return {"summary": repr(given.needs["make"])}
