"""
What is wrong with the tasks of a mission, in one sentence.
"""

from outlast.contracts.errors import BadInputError
from outlast.contracts.models import INPUT_BYTES, Limits, Mission, Task
from outlast.contracts.trees import MISSION_ROLE, child_of


def check(added: list[Task], known: dict[str, Task], mission: Mission) -> None:
    """
    Check *added* tasks against those *known* and the mission's crew and limits.

    :raises BadInputError: in one sentence, naming the task.
    """
    together = dict(known)
    for task in added:
        if task.id in together:
            raise BadInputError(f"two tasks are called {task.id!r}")
        together[task.id] = task
    if len(together) > mission.limits.tasks:
        raise BadInputError(
            f"{len(together)} tasks are over the limit of {mission.limits.tasks}"
        )
    for task in added:
        _check_task(task, together, mission)
    _check_depth(together, mission.limits)


def _check_task(task: Task, together: dict[str, Task], mission: Mission) -> None:
    if task.role == MISSION_ROLE:
        child = child_of(mission, task)
        check(child.tasks, {}, child)
    elif task.role not in mission.crew:
        known = ", ".join(sorted(mission.crew))
        raise BadInputError(
            f"task {task.id!r}: no agent plays {task.role!r}; the crew has: {known}; "
            "set OUTLAST_AGENTS to the module that has it"
        )
    for need in task.needs:
        if need not in together:
            raise BadInputError(f"task {task.id!r} needs {need!r}, which is no task")
    try:
        size = len(task.model_dump_json().encode())
    except ValueError:
        raise BadInputError(
            f"task {task.id!r} holds text that is no UTF-8 and cannot travel"
        ) from None
    if size > INPUT_BYTES:
        raise BadInputError(
            f"task {task.id!r} has {size} bytes of input, over the cap of {INPUT_BYTES}"
        )


def _check_depth(together: dict[str, Task], limits: Limits) -> None:
    """
    Walk the graph in waves: what is left when no wave remains is a cycle.
    """
    left = dict(together)
    # What was withdrawn by an author that is done again is waited for by nobody.
    done = {need for task in left.values() for need in task.needs} - left.keys()
    depth = 0
    while left:
        wave = [task.id for task in left.values() if done.issuperset(task.needs)]
        if not wave:
            raise BadInputError(
                "these tasks need each other in a circle: " + ", ".join(sorted(left))
            )
        done.update(wave)
        left = {name: task for name, task in left.items() if name not in done}
        depth += 1
    if depth > limits.depth:
        raise BadInputError(
            f"a chain of {depth} tasks is over the limit of {limits.depth}"
        )
