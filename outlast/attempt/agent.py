"""
An agent: a role, the function that plays it, and the register of those declared here.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_type_hints

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from outlast.contracts.errors import BadInputError, GiveUp
from outlast.contracts.policies import Policy

Migrate = Callable[[int, Any], Any]


@dataclass(frozen=True)
class Degraded:
    """
    A result with less than was asked; return it instead of the bare result.
    """

    result: Any
    reason: str


@dataclass(frozen=True)
class Agent:
    """
    A role and how it is played.

    :param play: `(input, ctx) -> result`, async, or plain and then run in a thread.
    :param version: of the agent's checkpoints; raise it when their shape changes.
    :param migrate: turns a checkpoint value of an older version into this one's.
    :param batch_size: in the pool, takes a list of up to so many items at once and
        returns as many results; 0 for one ordinary call an item.
    :param before: a role whose tasks come here first, before the agent that plays it.
    """

    role: str
    version: int
    play: Callable[..., Any]
    policy: Policy = field(default_factory=Policy)
    fallbacks: tuple[str, ...] = ()
    migrate: Migrate | None = None
    batch_size: int = 0
    before: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.play(*args, **kwargs)

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.play)

    def read(self, given: Any, needs: dict[str, JsonValue]) -> Any:
        """
        Make the function's first argument of a task's input.

        Results of needed tasks fill its field `needs`, where it declares one.

        :raises GiveUp: when the input does not fit, which no retry can mend.
        """
        values = {**given, "needs": needs} if self._takes_needs else given
        try:
            return self._input.validate_python(values)
        except ValidationError as error:
            raise GiveUp(f"{self.role} cannot use its input: {_first(error)}") from None

    @cached_property
    def _input_type(self) -> Any:
        first = next(iter(inspect.signature(self.play).parameters))
        return get_type_hints(self.play).get(first, dict[str, Any])

    @cached_property
    def _input(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._input_type)

    @cached_property
    def _takes_needs(self) -> bool:
        wanted = self._input_type
        return (
            inspect.isclass(wanted)
            and issubclass(wanted, BaseModel)
            and "needs" in wanted.model_fields
        )


_loaded: dict[str, Agent] = {}


def agent(  # noqa: PLR0913 - each is one word of the declaration
    role: str,
    *,
    version: int = 1,
    policy: Policy | None = None,
    fallbacks: tuple[str, ...] = (),
    migrate: Migrate | None = None,
    batch_size: int = 0,
    before: str | None = None,
) -> Callable[[Callable[..., Any]], Agent]:
    """
    Declare the decorated function as the one that plays *role*.

    :raises BadInputError: when another function plays it already, or when it does
        not take an input and a context.
    """

    def declare(play: Callable[..., Any]) -> Agent:
        if len(inspect.signature(play).parameters) != 2:
            raise BadInputError(f"agent {role!r} must take two arguments: input, ctx")
        other = _loaded.get(role)
        if other is not None and _where(other.play) != _where(play):
            raise BadInputError(
                f"two agents play {role!r}: {_where(other.play)} and {_where(play)}"
            )
        chosen = policy or Policy()
        made = Agent(
            role, version, play, chosen, fallbacks, migrate, batch_size, before
        )
        _loaded[role] = made
        return made

    return declare


def loaded() -> dict[str, Agent]:
    """
    List the agents of this process by role.
    """
    return dict(_loaded)


def _where(play: Callable[..., Any]) -> str:
    return f"{play.__module__}.{play.__qualname__}"


def _first(error: ValidationError) -> str:
    """
    Say the first fault of a validation in one line.
    """
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or "input"
    return f"{place}: {fault['msg']}"
