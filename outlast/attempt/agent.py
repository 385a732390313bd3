"""
Agents: a role, the function that plays it, and the register of those loaded here.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from outlast.contracts.errors import BadInputError, GiveUp
from outlast.contracts.models import Member
from outlast.contracts.policies import Policy
from outlast.contracts.texts import digest

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


def load(modules: list[str]) -> dict[str, Agent]:
    """
    Import the modules that declare agents, by dotted name or path to a file.

    :raises BadInputError: when one of them cannot be imported.
    """
    for module in modules:
        try:
            _import(module)
        except BadInputError:
            raise
        except Exception as error:
            # The module is the user's: whatever it raises is its own fault.
            cause = f"{type(error).__name__}: {error}"
            raise BadInputError(f"agents in {module!r} cannot load: {cause}") from error
    return loaded()


def playing(agents: dict[str, Agent], roles: list[str]) -> dict[str, Agent]:
    """
    Keep those of *agents* that play *roles*, or go ahead of them; all of them where no
    role is named.

    :raises BadInputError: when nobody plays one of *roles*, with those there are.
    """
    unknown = [repr(role) for role in roles if role not in agents]
    if unknown:
        raise BadInputError(
            f"no agent plays {', '.join(unknown)}; there are "
            f"{', '.join(sorted(agents))}"
        )
    return {
        role: each
        for role, each in agents.items()
        if not roles or role in roles or each.before in roles
    }


def crew(agents: dict[str, Agent]) -> dict[str, Member]:
    """
    Resolve the routes and policies of *agents*, as a mission carries them.

    :raises BadInputError: when a fallback, or what an agent goes ahead of, is played
        by nobody.
    """
    for each in agents.values():
        for fallback in each.fallbacks:
            if fallback not in agents:
                raise BadInputError(
                    f"agent {each.role!r} falls back to {fallback!r}, which no agent "
                    "plays"
                )
        if each.before is not None and each.before not in agents:
            raise BadInputError(
                f"agent {each.role!r} goes ahead of {each.before!r}, which no agent "
                "plays"
            )
    return {
        role: Member(routes=_routes(each, agents), policy=each.policy)
        for role, each in sorted(agents.items())
    }


def _routes(agent: Agent, agents: dict[str, Agent]) -> list[str]:
    """
    Where tasks of *agent*'s role may run: ahead of it in the order of their loading,
    itself, its fallbacks.
    """
    ahead = [role for role, each in agents.items() if each.before == agent.role]
    return [*ahead, agent.role, *agent.fallbacks]


def _import(module: str) -> None:
    if not module.endswith(".py"):
        importlib.import_module(module)
        return
    path = Path(module).resolve()
    name = f"outlast_agents_{path.stem}_{digest(str(path))[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadInputError(f"there is no agent module at {module}")
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # type hints are resolved through it
    spec.loader.exec_module(made)


def _where(play: Callable[..., Any]) -> str:
    return f"{play.__module__}.{play.__qualname__}"


def _first(error: ValidationError) -> str:
    """
    Say the first fault of a validation in one line.
    """
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or "input"
    return f"{place}: {fault['msg']}"
