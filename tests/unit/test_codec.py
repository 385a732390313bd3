"""
Progress and results come back as they were given, or are refused when they are given.
"""

import json
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from outlast.execution.codec import Codec, LossyEncodingError
from outlast.execution.differences import difference
from outlast.execution.floats import restored, tagged

T = TypeVar("T")
INF, NAN = math.inf, math.nan


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int
    paid_lines: list[int] = Field(...)


class Optional(BaseModel):
    paid: list[int] = Field(default=[], alias="paidLines")


class TwoAliases(BaseModel):
    n: int = Field(validation_alias="read", serialization_alias="written")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    amount: Decimal


class Shot(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    png: bytes


class Utf8(BaseModel):
    png: bytes


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    cents: tuple[int, ...]

    @computed_field
    def total(self) -> int:
        return sum(self.cents)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Score(BaseModel):
    best: float = INF
    found: str | None = None


class Raw(BaseModel):
    payload: Json[list[int]]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: set[str]


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: float
    when: date
    cache: list[int] = field(default_factory=list, compare=False)


class Pair(NamedTuple):
    left: int
    right: str


class Row(TypedDict):
    n: int
    at: datetime


class Box(BaseModel, Generic[T]):
    inside: T


class Names(RootModel[list[str]]):
    pass


class Rich(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    colour: Colour
    price: Decimal
    point: Point
    pair: tuple[int, str]
    by_day: dict[date, int]
    where: Path
    id: UUID
    took: timedelta


class Secret(BaseModel):
    token: SecretStr


class Shown(BaseModel):
    token: SecretStr

    @field_serializer("token")
    def _show(self, token: SecretStr) -> str:
        return token.get_secret_value()


class Animal(BaseModel):
    name: str


class Horse(Animal):
    height: int = 0


class Stable(BaseModel):
    animals: list[Animal]


class Anything(BaseModel):
    value: Any = None


class Cached(BaseModel):
    n: int
    _seen: int = PrivateAttr(default=0)


class Lossy(BaseModel):
    text: str

    @field_serializer("text")
    def _cut(self, text: str) -> str:
        return text[:3]


class Hidden(BaseModel):
    n: int = Field(default=0, exclude=True)


class NoEquality:
    pass


def cached(seen: int) -> Cached:
    made = Cached(n=1)
    made._seen = seen
    return made


RICH = Rich(
    pets=[Cat(lives=9), Dog(tricks={"sit"})],
    colour=Colour.RED,
    price=Decimal("0.10"),
    point=Point(1.5, date(2026, 1, 2)),
    pair=(1, "a"),
    by_day={date(2026, 1, 2): 3},
    where=Path("/tmp"),
    id=UUID(int=7),
    took=timedelta(seconds=1.5),
)

COMES_BACK: list[tuple[Any, Any]] = [
    (Camel, Camel(orderId=1, paidLines=[1, 2])),
    (list[Camel], [Camel(orderId=1, paidLines=[1, 2])]),
    (Optional, Optional(paidLines=[1, 2])),
    (TwoAliases, TwoAliases(read=3)),
    (Strict, Strict(at=datetime(2026, 1, 2, tzinfo=UTC), amount=Decimal("1.10"))),
    (Shot, Shot(png=b"\x89PNG\r\n\x00\xff")),
    (Utf8, Utf8(png=b"plain")),
    (bytes, b"\x89\xff"),
    (dict[str, bytes], {"png": b"\x89\xff"}),
    (Closed, Closed(cents=(1, 2))),
    (Open, Open(more=[1])),
    (Score, Score(found="null")),
    (Score, Score(best=NAN)),
    (Score, Score(best=-INF)),
    (list[Score], [Score(), Score(best=1.0)]),
    (dict, {"best": INF, "rest": [NAN, None, 1.0]}),
    (float, INF),
    (dict, {"$float": "inf", "in": {"$float": {"$float": NAN}}}),
    (Raw, Raw(payload="[1, 2]")),
    (Rich, RICH),
    (Point, Point(1.5, date(2026, 1, 2))),
    (Pair, Pair(1, "a")),
    (Row, {"n": 1, "at": datetime(2026, 1, 2, tzinfo=UTC)}),
    (Box[int], Box[int](inside=1)),
    (Box[list[Horse]], Box[list[Horse]](inside=[Horse(name="a", height=160)])),
    (Names, Names(["a"])),
    (Shown, Shown(token=SecretStr("tok"))),
    (dict[int, str], {1: "paid"}),
    (Cat | Dog, Dog(tricks={"sit"})),
    (Cat | None, None),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (Word, Word.YES),
    (dict, {"said": "yes", "n": [1, 2.5, None, True]}),
    (dict, {}),
    (defaultdict[str, int], defaultdict(int, a=1)),
    (dict, OrderedDict(a=1)),
    (list, (1, 2)),
    (Cached, cached(0)),
    (str, "nul \0, line\u2028"),
]

IS_LOST: list[tuple[Any, Any, str]] = [
    (Secret, Secret(token=SecretStr("tok")), r"Secret\.token .*asterisks.*ctx\.secret"),
    (
        Stable,
        Stable(animals=[Horse(name="a", height=1)]),
        r"animals\.0 .*Horse.*Animal",
    ),
    (Animal, Horse(name="a", height=1), r"Horse.*Animal"),
    (dict, {1: "paid"}, r"key \[1\].*dict\[int, str\]"),
    (dict, {"by": {2024: 1}}, r"by.*\[2024\]"),
    (dict, {"at": datetime(2026, 1, 2, tzinfo=UTC)}, r"at .*datetime.*str"),
    (dict, {"price": Decimal("1.1")}, r"price .*Decimal.*str"),
    (dict, {"n": Animal(name="a")}, r"n .*Animal.*dict"),
    (dict, {"png": b"\x89"}, r"png .*bytes"),
    (Utf8, Utf8(png=b"\x89"), r"Utf8\.png.*bytes.*base64"),
    (Anything, Anything(value=(1, 2)), r"Anything\.value .*tuple.*list"),
    (Anything, Anything(value={1: 2}), r"value.*\[1\]"),
    (Cached, cached(1), r"Cached\._seen"),
    (Lossy, Lossy(text="long"), r"Lossy\.text"),
    (Hidden, Hidden(n=1), r"Hidden\.n"),
    (dict, {"page": "caf\udce9"}, r"page holds half a surrogate pair"),
    (Animal, Animal(name="\ud83d"), r"Animal\.name holds half"),
    (dict, {"x": NoEquality()}, r"x is a NoEquality"),
    (NoEquality, NoEquality(), "NoEquality"),
    (list[int], ["a"], "could not be read back"),
]


def codec_name(value: Any) -> str:
    return f"{getattr(value, '__name__', value)}"[:30]


@pytest.mark.parametrize(("kind", "value"), COMES_BACK, ids=codec_name)
def test_what_is_saved_comes_back(kind: Any, value: Any) -> None:
    """
    Of each type, in standard JSON; also the second time, when it is known.
    """
    codec = Codec()
    for _ in range(2):
        body = codec.progress(value, kind)
        json.loads(body, parse_constant=lambda name: pytest.fail(f"bare {name}"))
        back = codec.read(kind, json.dumps(json.loads(body)).encode())
        assert difference(list(value) if kind is list else value, back) is None


@pytest.mark.parametrize(("kind", "value", "said"), IS_LOST, ids=codec_name)
def test_what_would_be_lost_is_refused(kind: Any, value: Any, said: str) -> None:
    """
    In one sentence that names the field, each time it is given.
    """
    codec = Codec()
    for _ in range(2):
        with pytest.raises(LossyEncodingError, match=said) as refusal:
            codec.progress(value, kind)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "fine", "lost"),
    [
        (dict, {"a": 1}, {1: "paid"}),
        (dict, {"a": 1}, {"at": date(2026, 1, 2)}),
        (Stable, Stable(animals=[]), Stable(animals=[Horse(name="a", height=1)])),
        (Anything, Anything(value=1), Anything(value=(1,))),
        (Camel | dict, {"a": 1}, {"a": (1,)}),
    ],
)
def test_a_type_whose_first_value_was_fine_is_looked_at_on(
    kind: Any, fine: Any, lost: Any
) -> None:
    """
    Where what comes back depends on the value.
    """
    codec = Codec()
    codec.progress(fine, kind)
    with pytest.raises(LossyEncodingError):
        codec.progress(lost, kind)


def test_a_known_type_is_not_read_back_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What cannot differ from value to value is compared once a process.
    """
    codec = Codec()
    codec.progress(Camel(orderId=1, paidLines=[]), Camel)
    monkeypatch.setattr("outlast.execution.codec.difference", pytest.fail)
    codec.progress(Camel(orderId=2, paidLines=[3]), Camel)


def test_what_is_not_resumed_first_is_judged_by_what_it_holds() -> None:
    """
    Nobody has said yet as what it is resumed: each part comes back as what it is.
    """
    codec = Codec()
    codec.progress([Camel(orderId=1, paidLines=[]), date(2026, 1, 2)])
    with pytest.raises(LossyEncodingError, match=r"0: Secret\.token"):
        codec.progress([Secret(token=SecretStr("tok"))])
    with pytest.raises(LossyEncodingError, match=r"\[1\]"):
        codec.progress({1: "paid"})


RESULTS: list[tuple[Any, Callable[[Any], bool]]] = [
    (
        Camel(orderId=1, paidLines=[2]),
        lambda r: r == {"order_id": 1, "paid_lines": [2]},
    ),
    (Closed(cents=(1,)), lambda r: r == {"cents": [1]}),
    ({"when": date(2026, 1, 2)}, lambda r: r == {"when": "2026-01-02"}),
    ({"best": INF}, lambda r: r == {"best": {"$float": "inf"}}),
    (Raw(payload="[1]"), lambda r: r == {"payload": "[1]"}),
    (None, lambda r: r is None),
]


@pytest.mark.parametrize(("value", "fits"), RESULTS, ids=codec_name)
def test_results_are_plain_json_that_comes_back(
    value: Any, fits: Callable[[Any], bool]
) -> None:
    """
    By names; computed fields stay where the type itself can read them.
    """
    assert fits(json.loads(Codec().result(value)))


@pytest.mark.parametrize(
    "value",
    [
        Secret(token=SecretStr("tok")),
        {1: "paid"},
        Stable(animals=[Horse(name="a")]),
        {"text": "caf\udce9"},
        {"png": b"\x89"},
    ],
    ids=codec_name,
)
def test_a_result_that_would_be_lost_is_refused(value: Any) -> None:
    with pytest.raises(LossyEncodingError):
        Codec().result(value)


@pytest.mark.parametrize(
    "tree",
    [INF, [NAN, {"a": -INF}], {"$float": "inf"}, {"$float": {"$float": INF}}, "inf"],
)
def test_tags_are_undone(tree: Any) -> None:
    """
    Whatever looks like a tag itself included.
    """
    written = json.dumps(tagged(tree), allow_nan=False)
    assert difference(tree, restored(json.loads(written))) is None
