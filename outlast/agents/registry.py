"""
An agent: a role, the function that plays it, and the register of those declared here.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from outlast.agents import agent_function
from outlast.agents.agent_input import AgentInput, first_fault
from outlast.agents.agent_options import Isolation, fault_of_options, fault_of_role
from outlast.contracts.errors import BadInputError, GiveUp
from outlast.contracts.policies import Policy
from outlast.execution.codec import Codec
from outlast.execution.floats import TAG, parsed

Migrate = Callable[[int, Any], Any]


@dataclass(frozen=True)
class Degraded:
    """
    A result with less than was asked; return it instead of the bare result.

    :param result: what there is, as the agent would return it.
    :param reason: what is lacking and why, for the report.
    :raises TypeError: when the reason is no text, or empty.
    """

    result: Any
    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise TypeError(
                f"Degraded(result, reason): the reason is a text, not {self.reason!r}"
            )


@dataclass(frozen=True)
class DeclaredAt:
    """
    Where an agent is declared, and in whose namespace: a file that is imported as two
    modules has one place and two namespaces.
    """

    file: str
    line: int
    namespace: dict[str, Any] = field(repr=False)

    @property
    def place(self) -> str:
        return agent_function.place(self.file, self.line)


@dataclass(frozen=True)
class Agent:
    """
    A role and how it is played.

    :param func: `(input, ctx) -> result`, async, or plain and then run in a thread.
    :param version: of the agent's checkpoints; raise it when their shape changes.
    :param migrate: turns a checkpoint value of an older version into this one's.
    :param batch_size: in the pool, takes a list of up to so many items at once and
        returns as many results; 0 for one ordinary call an item.
    :param before: a role whose tasks come here first, before the agent that plays it.
    :param isolation: "shared" where its attempts share processes and their modules'
        globals with others, "process" where each has a process to itself.
    :param slots: attempts of it at a time in one process, 0 for as many as there are.
    """

    role: str
    version: int
    func: Callable[..., Any]
    policy: Policy = field(default_factory=Policy)
    fallbacks: tuple[str, ...] = ()
    migrate: Migrate | None = None
    batch_size: int = 0
    before: str | None = None
    isolation: Isolation = "shared"
    slots: int = 0
    declared: DeclaredAt | None = field(default=None, compare=False, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    @property
    def isolated(self) -> bool:
        """
        Whether each of its attempts has a process to itself.
        """
        return self.isolation == "process"

    @property
    def one_by_one(self) -> bool:
        """
        Whether a lease plays its items one after another.
        """
        return self.isolated or self.slots > 0

    @cached_property
    def is_async(self) -> bool:
        return agent_function.is_async(self.func)

    @cached_property
    def input(self) -> AgentInput:
        """
        The type of its first argument.

        :raises BadInputError: when nothing of that type can be made of a task's input.
        """
        try:
            given, _ = agent_function.hints_of(self.func)
            return AgentInput(given, is_list=self.batch_size > 0)
        except NameError as error:
            raise self.input_error(
                f"the type of its input is not to be found: {error}; define or import "
                "it in the module itself, not only where types are checked"
            ) from error
        except TypeError as error:
            raise self.input_error(
                f"its input: {error}; use a BaseModel, a dataclass, a TypedDict or a "
                "dict"
            ) from error

    def read(self, given: Any, needs: dict[str, JsonValue]) -> Any:
        """
        Make the function's first argument of a task's input.

        Results of needed tasks fill its field `needs`, where it declares one.

        :raises GiveUp: when the input does not fit, which no retry can mend.
        """
        try:
            return self.input.read(given, needs)
        except ValidationError as error:
            raise GiveUp(
                f"{self.role} cannot use its input: {first_fault(error)}"
            ) from None

    def read_items(self, bodies: list[str]) -> Any:
        """
        Make the function's first argument of the JSON of one item, or of several.

        :raises GiveUp: when it does not fit or cannot be read.
        """
        if self.batch_size > 0:
            return self.read([_decoded(body) for body in bodies], {})
        (body,) = bodies
        if self.input.takes_json and TAG not in body:
            with suppress(ValidationError):  # read again for what is to be said of it
                return self.input.read_json(body)
        return self.read(_decoded(body), {})

    @cached_property
    def codec(self) -> Codec:
        """
        How what it saves and returns is written.
        """
        return Codec()

    def input_error(self, why: str) -> BadInputError:
        """
        Make the error that says where the agent is declared and what is wrong there.
        """
        return BadInputError(f"{self.place}: agent {self.role!r}: {why}")

    @property
    def place(self) -> str:
        """
        Where it is declared, or else where its function is written.
        """
        if self.declared is not None:
            return self.declared.place
        return agent_function.place_of(self.func)


_registry: dict[str, Agent] = {}


def agent(  # noqa: PLR0913 - each is one word of the declaration
    role: str,
    *,
    version: int = 1,
    policy: Policy | None = None,
    fallbacks: tuple[str, ...] | list[str] = (),
    migrate: Migrate | None = None,
    batch_size: int = 0,
    before: str | None = None,
    isolation: Isolation = "shared",
    slots: int = 0,
) -> Callable[[Callable[..., Any]], Agent]:
    """
    Declare the decorated function `(input, ctx) -> result` as the agent of *role*.

    The function is async, or plain and then run in a thread. Its first argument's type
    is a pydantic model, a dataclass, a TypedDict or a dict; inputs are checked by it
    before a mission starts. The result is JSON, or a value of such a type.

    :param version: of what it saves; raise it when that changes its shape.
    :param policy: how often it may fail and how long an attempt may take.
    :param fallbacks: roles that a task is tried as, in this order, when this one fails.
    :param migrate: `(version, value) -> value`: make what this version's `resume` reads
        of the JSON that an older one saved.
    :param batch_size: in the pool, take a list of up to so many items at once and
        return a list of as many results; 0: one item a call.
    :param before: another role, whose tasks are tried as this one first.
    :param isolation: "process": each attempt has a process to itself; "shared": it
        shares its process, and the globals of its modules, with other attempts.
    :param slots: attempts at a time in one process; 0: as many as `OUTLAST_SLOTS`.
    :raises BadInputError: when an option is wrong, when the function does not take an
        input and a context, or when the role has another agent already.
    """
    options: dict[str, Any] = {
        "version": version,
        "policy": policy,
        "fallbacks": fallbacks,
        "migrate": migrate,
        "batch_size": batch_size,
        "before": before,
        "isolation": isolation,
        "slots": slots,
    }
    wrong = fault_of_role(role)
    if wrong is not None:
        raise BadInputError(f"{_declared_here().place}: agent: {wrong}")

    def declare(play: Callable[..., Any]) -> Agent:
        declared = _declared_here()
        inner = play.func if isinstance(play, Agent) else play  # declared twice
        fault = fault_of_options(role, options) or agent_function.fault_of(inner)
        if fault is not None:
            raise BadInputError(f"{declared.place}: agent {role!r}: {fault}")
        chosen = {**options, "policy": policy or Policy(), "fallbacks": (*fallbacks,)}
        made = Agent(role=role, func=inner, declared=declared, **chosen)
        _require_unique(made)
        _registry[role] = made
        return made

    return declare


def _declared_here() -> DeclaredAt:
    """
    Note who calls `agent`, or the decorator that it returns.
    """
    frame = sys._getframe(2)
    file = str(Path(frame.f_code.co_filename).resolve())
    return DeclaredAt(file, frame.f_lineno, frame.f_globals)


def _require_unique(made: Agent) -> None:
    """
    Let one role have one function; the same one, imported under two names or again, is
    no other.

    :raises BadInputError: naming where both are declared.
    """
    other = _registry.get(made.role)
    if other is None or other.func is made.func or _is_same_agent(other, made):
        return
    raise BadInputError(
        f"two agents play {made.role!r}: {other.place} and {made.place}; "
        "give one of them another role"
    )


def _is_same_agent(one: Agent, other: Agent) -> bool:
    """
    True if both come of one declaration in one file, though it was imported as two
    modules, or again.
    """
    if agent_function.origin(one.func) != agent_function.origin(other.func):
        return False
    assert one.declared is not None
    assert other.declared is not None
    if one.declared.namespace is not other.declared.namespace:
        return one.place == other.place
    # One module: a function without a memory of its own is the same when it is written
    # in the same place, which is how a reloaded one looks.
    return all(agent_function.is_plain(each.func) for each in (one, other))


def registered_agents() -> dict[str, Agent]:
    """
    List the agents of this process by role.
    """
    return dict(_registry)


def _decoded(body: str) -> JsonValue:
    try:
        return parsed(body)
    except (ValueError, RecursionError) as error:
        raise GiveUp(f"the item cannot be read: {error}") from None
