"""
An agent: a role, the function that plays it, and how its input is read.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import JsonValue, ValidationError

from outlast.agents import agent_function
from outlast.agents.agent_hints import hints_of
from outlast.agents.agent_input import AgentInput, first_fault
from outlast.agents.agent_options import Isolation
from outlast.contracts.errors import BadInputError, GiveUp
from outlast.contracts.retries import Policy
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
    A role and how it is played; its options are those of `@agent`.

    :param func: `(input, ctx) -> result`, async, or plain and then run in a thread.
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
        return self.isolation == "process"

    @property
    def one_by_one(self) -> bool:
        """
        True if a lease plays its items one after another.
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
            given, _ = hints_of(self.func)
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


def _decoded(body: str) -> JsonValue:
    try:
        return parsed(body)
    except (ValueError, RecursionError) as error:
        raise GiveUp(f"the item cannot be read: {error}") from None
