"""
What is checked before anything starts: the agents' types, and what tasks give them.
"""

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, get_origin

from pydantic import ValidationError

from outlast.agents.agent import Agent, Degraded
from outlast.agents.agent_hints import hints_of
from outlast.agents.agent_input import MAX_INPUT_FAULTS, name_of
from outlast.agents.context import Context
from outlast.contracts.child_missions import MISSION_ROLE, ChildMissionSpec
from outlast.contracts.errors import BadInputError, GiveUp
from outlast.contracts.results import FanOut, FollowUps
from outlast.contracts.tasks import Task
from outlast.contracts.validation_faults import first_few


def check_agents(agents: Iterable[Agent]) -> None:
    """
    Resolve the types that each of *agents* takes.

    :raises BadInputError: naming the first agent whose input cannot be read, or whose
        second argument is no context.
    """
    for each in agents:
        with suppress(NameError):  # its input says so
            given, ctx = hints_of(each.func)
            fault = _order_fault(given, ctx)
            if fault is not None:
                raise each.input_error(fault)
        _ = each.input  # raises what is wrong with its type


def _order_fault(given: Any, ctx: Any) -> str | None:
    if inspect.isclass(given) and issubclass(given, Context):
        return "its input comes first and the context second: swap them"
    if not _may_be_context(ctx):
        return f"its second argument is the Context, and is annotated as {name_of(ctx)}"
    return None


def _may_be_context(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if hint is inspect.Parameter.empty or not inspect.isclass(kind):
        return True
    if issubclass(kind, Context) or getattr(kind, "_is_protocol", False):
        return True
    return issubclass(Context, kind) or kind is typing.Any


def require_fitting_inputs(tasks: Iterable[Task], agents: Mapping[str, Agent]) -> None:
    """
    Check what each of *tasks*, also of missions within, gives to the agent of its role,
    where that is one of *agents*. What its fallbacks take is their attempt's business.

    :raises BadInputError: naming the first task that does not fit, and its field.
    """
    for task in _with_nested(tasks):
        agent = agents.get(task.role)
        fault = fault_of_task(agent, task) if agent else None
        if fault is not None:
            raise BadInputError(fault)


def requests_work(value: Any) -> bool:
    """
    True if an agent's result asks for tasks or items.
    """
    return isinstance(_bare(value), FollowUps | FanOut)


def require_valid_follow_ups(value: Any, agents: Mapping[str, Agent]) -> None:
    """
    Check the tasks and items that an agent's result asks for, as a mission's are before
    it starts.

    :raises GiveUp: naming what does not fit; no attempt more would ask better.
    """
    value = _bare(value)
    if isinstance(value, FollowUps):
        try:
            require_fitting_inputs(value.tasks, agents)
        except BadInputError as error:
            raise GiveUp(f"it asks for {error}") from None
    if isinstance(value, FanOut) and value.role in agents:
        for number, item in enumerate(value.items, 1):
            fault = fault_of_input(agents[value.role], item)
            if fault is not None:
                raise GiveUp(f"its item {number} for {value.role!r}: {fault}")


def _bare(value: Any) -> Any:
    return value.result if isinstance(value, Degraded) else value


def _with_nested(tasks: Iterable[Task]) -> Iterator[Task]:
    waiting = list(tasks)
    while waiting:
        task = waiting.pop(0)
        yield task
        if task.role == MISSION_ROLE:
            try:
                waiting.extend(ChildMissionSpec.model_validate(task.input).tasks)
            except ValidationError:
                continue  # the plan's check says so


def fault_of_task(agent: Agent, task: Task) -> str | None:
    """
    Say why *agent* cannot take *task*, in one sentence; None when it can.
    """
    faults = fault_of_input(agent, task.input)
    if faults is not None:
        return f"task {task.id!r}: the input of {agent.role!r} does not fit: {faults}"
    if task.needs and not agent.input.takes_needs:
        return (
            f"task {task.id!r}: it needs {', '.join(task.needs)}, and the input of "
            f"{agent.role!r} has no field `needs` for their results ({agent.place}): "
            "add `needs: dict[str, ...]` to it"
        )
    return None


def fault_of_input(agent: Agent, given: Any, text: str | None = None) -> str | None:
    """
    Say what of a task's or an item's input *agent* cannot read; None when it can.

    :param text: its JSON, where that is there.
    """
    faults = agent.input.faults(given, text)
    return first_few(faults, MAX_INPUT_FAULTS) if faults else None
