"""
Declare agents with `@agent`; the register of those declared in this process.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outlast.agents import agent_function
from outlast.agents.agent import Agent, DeclaredAt, Migrate
from outlast.agents.agent_options import Isolation, fault_of_options, fault_of_role
from outlast.contracts.errors import BadInputError
from outlast.contracts.retries import Policy

# Filled by imports, which happen once a process, as those in `sys.modules`.
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
    frame = sys._getframe(2)  # who calls `agent`, or the decorator that it returns
    file = str(Path(frame.f_code.co_filename).resolve())
    return DeclaredAt(file, frame.f_lineno, frame.f_globals)


def _require_unique(made: Agent) -> None:
    """
    :raises BadInputError: when another function has the role, naming where both are
        declared; the same one, imported under two names or again, is no other.
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
