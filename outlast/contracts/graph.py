"""
The tasks of a plan as a graph: which task needs or has added which, and how deep.

Links are kept in both directions, so that a change costs as much as a task has
neighbours, however many tasks there are. Nothing recurses: a chain of tasks may be as
long as the plan.
"""

from collections import ChainMap, defaultdict, deque
from collections.abc import Iterable

from outlast.contracts.errors import BadInputError
from outlast.contracts.tasks import Limits, Task

# Names in the order in which they were added: a set's order changes from run to run.
Names = dict[str, None]


class Graph:
    """
    Tasks and their links. A withdrawn task keeps its links to the task that added it,
    which may add it again, and to those that need it.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.authors: dict[str, str] = {}
        self.order: dict[str, int] = {}
        self._needed_by: defaultdict[str, Names] = defaultdict(dict)
        self._requested_by: defaultdict[str, Names] = defaultdict(dict)
        self._depths: dict[str, int] = {}
        self._added = 0

    def add(
        self, tasks: list[Task], author: str | None = None, limits: Limits | None = None
    ) -> None:
        """
        Add *tasks* for the task *author*, all or none of them.

        :raises BadInputError: when tasks need each other in a circle, or a chain of
            them is longer than *limits* allow.
        """
        depths = self._deepened(tasks)
        depth = max(depths.values(), default=0)
        if limits is not None and depth > limits.depth:
            raise BadInputError(
                f"a chain of {depth} tasks is over the limit of {limits.depth}"
            )
        self._depths.update(depths)
        for task in tasks:
            self.tasks[task.id] = task
            self._added += 1
            self.order[task.id] = self._added
            for need in task.needs:
                self._needed_by[need][task.id] = None
            if author is not None:
                self.add_request(author, task.id)

    def add_request(self, author: str, task: str) -> None:
        self.forget(task)
        self.authors[task] = author
        self._requested_by[author][task] = None

    def needed_by(self, task: str) -> list[str]:
        return list(self._needed_by.get(task, ()))

    def withdraw(self, task: str) -> None:
        """
        Remove *task*, which its author may add again.
        """
        for need in self.tasks.pop(task).needs:
            self._needed_by[need].pop(task, None)
        del self._depths[task]

    def withdrawn_from(self, author: str) -> list[str]:
        """
        List the withdrawn tasks that *author* had added.
        """
        return [
            each
            for each in self._requested_by.get(author, ())
            if each not in self.tasks
        ]

    def forget(self, task: str) -> None:
        author = self.authors.pop(task, None)
        if author is not None:
            self._requested_by[author].pop(task, None)

    def downstream_of(self, targets: Iterable[str]) -> set[str]:
        """
        Find *targets* and all tasks that depend on them or were added by them.
        """
        found = {each for each in targets if each in self.tasks}
        left = deque(found)
        while left:
            name = left.popleft()
            for links in (self._needed_by, self._requested_by):
                for each in links.get(name, ()):
                    if each not in found and each in self.tasks:
                        found.add(each)
                        left.append(each)
        return found

    def in_order(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=self.order.__getitem__)

    def _deepened(self, added: list[Task]) -> dict[str, int]:
        """
        Measure the longest chain up to each of the *added* tasks and those downstream:
        a task may already need one of that name, which was withdrawn.

        :raises BadInputError: when tasks need each other in a circle.
        """
        joined = ChainMap({task.id: task for task in added}, self.tasks)
        behind = self._downstream(added)
        needs = {name: dict.fromkeys(joined[name].needs) for name in behind}
        unmeasured = {
            name: sum(each in needs for each in found) for name, found in needs.items()
        }
        depths: dict[str, int] = {}
        ready = deque(name for name, number in unmeasured.items() if number == 0)
        while ready:
            name = ready.popleft()
            known = (
                depths.get(each, self._depths.get(each, 0)) for each in needs[name]
            )
            depths[name] = 1 + max(known, default=0)
            for each in behind[name]:
                unmeasured[each] -= 1
                if unmeasured[each] == 0:
                    ready.append(each)
        if circle := needs.keys() - depths.keys():
            raise BadInputError(
                "these tasks need each other in a circle: " + ", ".join(sorted(circle))
            )
        return depths

    def _downstream(self, added: list[Task]) -> dict[str, Names]:
        links: defaultdict[str, Names] = defaultdict(dict)
        for task in added:
            for need in task.needs:
                links[need][task.id] = None
        found: dict[str, Names] = {}
        left = deque(task.id for task in added)
        while left:
            name = left.popleft()
            if name not in found:
                found[name] = {**self._needed_by.get(name, {}), **links.get(name, {})}
                left.extend(found[name])
        return found
