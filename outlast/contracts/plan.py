"""
A mission's tasks as a graph: what is wrong with it, and what may run next.

Pure: the starter checks a mission with it before anything starts, the supervisor
workflow keeps its state in it and checks an agent's follow-up tasks the same way.
"""

from collections.abc import Iterable

from outlast.contracts.errors import BadInputError
from outlast.contracts.models import (
    INPUT_BYTES,
    Limits,
    Mission,
    Outcome,
    Status,
    Task,
)

ANSWERED = {Status.DONE, Status.DEGRADED}


class Plan:
    """
    The tasks of one mission and how far they are.

    :raises BadInputError: when the tasks contradict each other or their limits.
    """

    def __init__(self, mission: Mission) -> None:
        self.mission = mission
        self.tasks: dict[str, Task] = {}
        self.started: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.extend(mission.tasks)

    def extend(self, tasks: Iterable[Task]) -> None:
        """
        Add *tasks*, all or none of them.

        :raises BadInputError: in one sentence, naming the task.
        """
        added = list(tasks)
        check(added, self.tasks, self.mission)
        self.tasks.update({task.id: task for task in added})

    @property
    def settled(self) -> bool:
        return len(self.outcomes) == len(self.tasks)

    @property
    def waiting(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.id not in self.started]

    def ready(self) -> list[Task]:
        """
        List the waiting tasks whose needs are settled well enough to run, in order.
        """
        return [task for task in self.waiting if self._runnable(task)]

    def start(self, task: Task) -> None:
        """
        Mark *task* as under way.
        """
        self.started.add(task.id)

    def record(self, outcome: Outcome) -> None:
        """
        Settle a task, and with it every task that can no longer run.
        """
        self.started.add(outcome.id)
        self.outcomes[outcome.id] = outcome
        for task in self.waiting:
            broken = self._broken_need(task)
            if broken and task.id not in self.outcomes:
                self.record(_without(task, broken))

    def stop(self, reason: str) -> None:
        """
        Skip whatever has not started.
        """
        for task in self.waiting:
            self.record(settle(task, Status.SKIPPED, reason))

    def needs_of(self, task: Task) -> list[str]:
        """
        List the needs of *task* that have a result.
        """
        return [need for need in task.needs if self._answered(need)]

    def _answered(self, task_id: str) -> bool:
        outcome = self.outcomes.get(task_id)
        return outcome is not None and outcome.status in ANSWERED

    def _runnable(self, task: Task) -> bool:
        return all(need in self.outcomes for need in task.needs)

    def _broken_need(self, task: Task) -> Outcome | None:
        """
        Find a required need that ended without a result.
        """
        for need in task.needs:
            outcome = self.outcomes.get(need)
            if outcome and outcome.required and outcome.status not in ANSWERED:
                return outcome
        return None


def settle(task: Task, status: Status, *reasons: str) -> Outcome:
    """
    Give *task* an end without an attempt.
    """
    return Outcome(
        id=task.id,
        role=task.role,
        route=task.role,
        status=status,
        required=task.required,
        reasons=list(reasons),
    )


def _without(task: Task, need: Outcome) -> Outcome:
    # What waits for something parked is parked too: it may still be done.
    parked = need.status is Status.PARKED
    status = Status.PARKED if parked else Status.SKIPPED
    return settle(task, status, f"needs {need.id}, which is {need.status}")


def mission_status(outcomes: Iterable[Outcome]) -> Status:
    """
    Say how a mission ended whose tasks ended like this.
    """
    ends = list(outcomes)
    required = {each.status for each in ends if each.required}
    if required & {Status.DEAD, Status.SKIPPED}:
        return Status.FAILED
    if Status.PARKED in required:
        return Status.PARKED
    if all(each.status is Status.DONE for each in ends):
        return Status.COMPLETED
    return Status.DEGRADED


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
    if task.role not in mission.crew:
        known = ", ".join(sorted(mission.crew))
        raise BadInputError(
            f"task {task.id!r}: no agent plays {task.role!r}; the crew has: {known}"
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
    done: set[str] = set()
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
