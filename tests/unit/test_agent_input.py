"""
What an agent takes is checked before anything starts, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    JsonValue,
    RootModel,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict
from unit_fakes import told_in_one_sentence

import outlast.testing
from outlast import FanOut, FollowUps, GiveUp
from outlast.agents.agent import Agent
from outlast.agents.agent_check import (
    fault_of_input,
    fault_of_task,
    require_fitting_inputs,
    require_valid_follow_ups,
)
from outlast.agents.agent_loading import load_agents
from outlast.cli.mission_file import mission_file
from outlast.contracts.errors import BadInputError
from outlast.contracts.tasks import Task
from outlast.settings import Settings


class Line(BaseModel):
    name: str
    cents: int = Field(ge=0)


class Order(BaseModel):
    id: str
    lines: list[Line] = Field(default=[])
    note: str = ""


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)
    count: int = 0


class Choices(BaseModel):
    count: int = Field(default=0, validation_alias=AliasChoices("n", "num"))


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 0


class Extensible(BaseModel):
    model_config = ConfigDict(extra="allow")
    count: int = 0


class Old(BaseModel):
    count: int = 0

    @model_validator(mode="before")
    @classmethod
    def renamed(cls, given: Any) -> Any:
        return {**given, "count": given.get("number", 0)}


class Reading(BaseModel):
    path: FilePath


class Raising(BaseModel):
    path: str

    @field_validator("path")
    @classmethod
    def look(cls, path: str) -> str:
        raise OSError("no such disk here")


class Rooted(RootModel[dict[str, int]]): ...


@dataclass
class Plain:
    count: int
    label: str = ""


class Typed(TypedDict, total=False):
    count: int


class Needing(BaseModel):
    topic: str = ""
    needs: dict[str, Line]


@dataclass
class PlainNeeding:
    needs: dict[str, Any]


class TypedNeeding(TypedDict):
    needs: dict[str, Any]


def taking(hint: Any, batch_size: int = 0, role: str = "it") -> Agent:
    async def play(given: Any, ctx: Any) -> None: ...

    play.__annotations__["given"] = hint
    return Agent(role, 1, play, batch_size=batch_size)


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (Order, {"id": "1", "lines": [{"name": "a", "cents": 1}]}),
        (Order | Strict, {"count": 1}),
        (Annotated[Order, Field(description="x")], {"id": "1"}),
        (Camel, {"COUNT": 1}),
        (Choices, {"num": 1}),
        (Extensible, {"other": 1}),
        (Old, {"number": 1}),
        (Reading, {"path": "/on/the/workers/host"}),
        (Raising, {"path": "x"}),
        (Rooted, {"a": 1}),
        (Plain, {"count": 1}),
        (Typed, {"count": 1}),
        (dict, {"what": "ever"}),
        (dict[str, Any], {"what": "ever"}),
        (dict[str, JsonValue], {"what": "ever"}),
        (Mapping[str, Any], {"what": "ever"}),
        (Any, {"what": "ever"}),
        (Needing, {"topic": "x"}),
        (PlainNeeding, {}),
        (Order | dict[str, Any], {"what": "ever"}),
    ],
)
def test_what_fits_is_taken(hint: Any, given: dict[str, Any]) -> None:
    """
    What only the worker can know is left to it.
    """
    assert fault_of_input(taking(hint), given) is None


@pytest.mark.parametrize(
    ("hint", "given", "told"),
    [
        (Order, {}, "id: Field required"),
        (Order, {"id": 7}, "id: Input should be a valid string"),
        (Order, {"id": "1", "note2": ""}, "note2: no such field; did you mean note?"),
        (Order, {"id": "1", "x": 1}, "x: no such field; there are id, lines, note"),
        (
            Order,
            {"id": "1", "lines": [{"name": "a", "cents": -1}]},
            "lines.0.cents: Input should be greater than or equal to 0",
        ),
        (
            Order,
            {"id": "1", "lines": [{"name": "a", "cents": 1, "nam": ""}]},
            "lines.0.nam: no such field; did you mean name?",
        ),
        (Strict, {"cuont": 1}, "cuont: no such field; did you mean count?"),
        (Camel, {"x": 1}, "x: no such field; there are COUNT"),
        (Choices, {"x": 1}, "x: no such field; there are n, num"),
        (Plain, {"count": 1, "lable": ""}, "lable: no such field; did you mean label?"),
        (Typed, {"cuont": 1}, "cuont: no such field; did you mean count?"),
        (Order | Line, {"id": "1", "idd": 1}, "idd: no such field; did you mean id?"),
        (dict[str, int], {"a": "x"}, "a: Input should be a valid integer"),
        (Needing, {"topc": ""}, "topc: no such field; did you mean topic?"),
        (Needing, {"topic": 7}, "topic: Input should be a valid string"),
        (Rooted, {"a": "x"}, "a: Input should be a valid integer"),
    ],
)
def test_what_does_not_fit_is_named(
    hint: Any, given: dict[str, Any], told: str
) -> None:
    """
    By its field; a key that means nothing by the nearest one that does.
    """
    fault = fault_of_input(taking(hint), given)
    assert fault is not None
    assert told in fault
    assert told_in_one_sentence(ValueError(fault))


@pytest.mark.parametrize(
    "hint",
    [
        Needing,
        PlainNeeding,
        TypedNeeding,
        Extensible,
        dict,
        dict[str, Any],
        Needing | Order,
    ],
)
def test_needs_have_a_place(hint: Any) -> None:
    """
    A field of that name, or a dict.
    """
    task = Task(id="b", role="it", input={"topic": "x"} if hint is Needing else {})
    found = fault_of_task(taking(hint), task.model_copy(update={"needs": ["a"]}))
    assert found is None or "no field `needs`" not in found


@pytest.mark.parametrize("hint", [Strict, Plain, Typed, dict[str, int]])
def test_needs_without_a_place_are_refused(hint: Any) -> None:
    """
    Their results would be lost in silence.
    """
    task = Task(id="b", role="it", input={"count": 1}, needs=["a"])
    told = fault_of_task(taking(hint), task)
    assert told is not None
    assert "task 'b': it needs a, and the input of 'it' has no field `needs`" in told
    assert "test_agent_input.py:" in told_in_one_sentence(ValueError(told))


def test_typed_needs_are_read(tmp_path: Path) -> None:
    """
    Results of needed tasks become what the field says.
    """
    made = taking(Needing).read({}, {"a": {"name": "x", "cents": 1}})
    assert made.needs == {"a": Line(name="x", cents=1)}
    made = taking(PlainNeeding).read({}, {"a": 1})
    assert made == PlainNeeding(needs={"a": 1})
    with pytest.raises(GiveUp, match=r"needs\.a\.cents"):
        taking(Needing).read({}, {"a": {"name": "x"}})


def test_an_item_is_checked_alone_where_a_list_is_taken() -> None:
    """
    Its place in the list means nothing to anybody.
    """
    many = taking(list[Line], batch_size=5)
    assert fault_of_input(many, {"name": "a", "cents": 1}) is None
    assert (fault_of_input(many, {"name": "a"}) or "").startswith("cents: Field req")
    assert (fault_of_input(many, {"name": "a", "cents": 1, "x": 1}) or "").startswith(
        "x: no such field"
    )


AGENTS = {"it": taking(Order), "many": taking(list[Line], 5, role="many")}


def test_the_first_task_that_does_not_fit_is_named() -> None:
    """
    Roles that are not here are checked where they are played.
    """
    tasks = [
        Task(id="a", role="elsewhere", input={"x": 1}),
        Task(id="b", role="it", input={"id": "1"}),
        Task(id="c", role="it", input={"idd": "1"}),
    ]
    with pytest.raises(BadInputError) as refused:
        require_fitting_inputs(tasks, AGENTS)
    text = told_in_one_sentence(refused.value)
    assert text.startswith(
        "task 'c': the input of 'it' does not fit: id: Field required"
    )


def test_a_mission_within_is_checked_too() -> None:
    """
    Before the mission around it starts.
    """
    inner = {"goal": "g", "tasks": [{"id": "x", "role": "it", "input": {"id": 3}}]}
    with pytest.raises(BadInputError, match="task 'x': the input of 'it'"):
        require_fitting_inputs([Task(id="m", role="mission", input=inner)], AGENTS)


def test_follow_ups_are_checked_where_they_are_asked_for() -> None:
    """
    No attempt more would ask better.
    """
    asked = FollowUps(tasks=[Task(id="n", role="it", input={"id": 7})])
    with pytest.raises(GiveUp, match=r"it asks for task 'n': .*id: Input should be"):
        require_valid_follow_ups(asked, AGENTS)
    require_valid_follow_ups(FollowUps(tasks=[Task(id="n", role="elsewhere")]), AGENTS)
    require_valid_follow_ups({"any": "result"}, AGENTS)


def test_items_of_a_fan_out_are_checked_where_it_is_asked_for() -> None:
    """
    The item is named by its number.
    """
    good: dict[str, JsonValue] = {"name": "a", "cents": 1}
    require_valid_follow_ups(FanOut(role="many", items=[good]), AGENTS)
    with pytest.raises(GiveUp, match=r"its item 2 for 'many': cents: Field required"):
        require_valid_follow_ups(
            FanOut(role="many", items=[good, {"name": "b"}]), AGENTS
        )


@pytest.mark.parametrize("path", sorted(Path("examples/missions").glob("*.yaml")))
def test_the_missions_that_we_ship_fit(path: Path) -> None:
    """
    With the agents of the shipped crew.
    """
    agents = load_agents([*Settings().modules, "examples/refunds.py"])
    require_fitting_inputs(mission_file(path, None).tasks, agents)


async def test_a_trial_is_refused_what_a_mission_is() -> None:
    """
    A test of an agent tells of a task that could not start.
    """
    with pytest.raises(BadInputError, match="idd: no such field; did you mean id"):
        await outlast.testing.run(taking(Order), {"id": "1", "idd": "2"})
    with pytest.raises(BadInputError, match="no field `needs`"):
        await outlast.testing.run(taking(Order), {"id": "1"}, needs={"a": 1})
