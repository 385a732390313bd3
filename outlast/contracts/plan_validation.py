"""
Refuse the tasks of a mission in one sentence.
"""

from collections import ChainMap
from collections.abc import Collection, Mapping

from outlast.contracts.child_missions import MISSION_ROLE, child_mission
from outlast.contracts.errors import BadInputError
from outlast.contracts.graph import Graph
from outlast.contracts.missions import Mission
from outlast.contracts.sizes import PLAN_BYTES
from outlast.contracts.tasks import Task


def validate_tasks(added: list[Task], known: dict[str, Task], mission: Mission) -> int:
    """
    Check *added* tasks against those *known* and the mission's crew and limits; returns
    their size in bytes.

    :raises BadInputError: in one sentence, naming the task.
    """
    new: dict[str, Task] = {}
    together = ChainMap(new, known)
    for task in added:
        if task.id in together:
            raise BadInputError(f"two tasks are called {task.id!r}")
        new[task.id] = task
    if (number := len(new) + len(known)) > mission.limits.tasks:
        raise BadInputError(
            f"{number} tasks are over the limit of {mission.limits.tasks}"
        )
    for task in added:
        _check_task(task, together, mission)
    return require_plan_size(added)


def require_plan_size(tasks: Collection[Task]) -> int:
    """
    Require that *tasks* fit into one plan; returns their size in bytes, without their
    large inputs.

    :raises BadInputError: in one sentence.
    """
    size = 0
    for task in tasks:
        try:
            size += len(task.model_dump_json().encode())
        except ValueError:
            raise BadInputError(
                f"task {task.id!r} holds text that is no UTF-8 and cannot travel"
            ) from None
    if size > PLAN_BYTES:
        raise BadInputError(
            f"{len(tasks)} tasks have {size} bytes together, with their needs and "
            f"small inputs, over the cap of {PLAN_BYTES}: use fewer tasks or needs"
        )
    return size


def _check_task(task: Task, together: Mapping[str, Task], mission: Mission) -> None:
    if task.role == MISSION_ROLE:
        child = child_mission(mission, task)
        validate_tasks(child.tasks, {}, child)
        Graph().add(child.tasks, limits=child.limits)
    elif task.role not in mission.crew:
        known = ", ".join(sorted(mission.crew))
        raise BadInputError(
            f"task {task.id!r}: no agent plays {task.role!r}; the crew has: {known}; "
            "set OUTLAST_AGENTS to the module that has it"
        )
    for need in task.needs:
        if need not in together:
            raise BadInputError(f"task {task.id!r} needs {need!r}, which is no task")
