"""
The plan of a mission: which task may run next, and which tasks are redone.

Pure: clients check a mission with it before anything starts, and the workflow keeps its
state in it. Which tasks are ready is updated as tasks end, never computed anew, and
nothing recurses: a plan may be as wide and as deep as its limits allow. `graph` holds
the links between tasks, `plan_validation` refuses those that contradict each other.
"""

from collections import Counter, deque
from collections.abc import Iterable
from heapq import heappop, heappush

from outlast.contracts.errors import BadInputError
from outlast.contracts.graph import Graph
from outlast.contracts.missions import Mission
from outlast.contracts.plan_validation import require_plan_size, validate_tasks
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.reports import Outcome, TaskStatus, outcome_without_attempt
from outlast.contracts.sizes import PLAN_BYTES
from outlast.contracts.tasks import Task


class Plan:
    """
    The tasks of one mission and their outcomes.

    :raises BadInputError: when the tasks contradict each other or their limits.
    """

    def __init__(self, mission: Mission) -> None:
        self.mission = mission
        self.graph = Graph()
        self.started: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.rounds: dict[str, int] = {}  # where there was more than one
        self.reasons: dict[str, str] = {}  # why there was more than one
        self.reopening: list[list[str]] = []  # tasks about to be redone
        self._held: set[str] = set()  # what depends on those
        self._redone: Counter[str] = Counter()
        self._size = 0  # of all tasks in bytes, with some that were withdrawn
        self._unmet: dict[str, int] = {}  # by waiting task: needs without an outcome
        # A heap of waiting tasks whose needs are met, in the plan's order; entries that
        # have started, or wait again, are dropped when they come up.
        self._ready: list[tuple[int, str]] = []
        self.extend(mission.tasks)

    @property
    def tasks(self) -> dict[str, Task]:
        return self.graph.tasks

    def extend(self, tasks: Iterable[Task], author: str | None = None) -> None:
        """
        Add *tasks* for the task *author*, all or none of them.

        :raises BadInputError: in one sentence, naming the task.
        """
        added = list(tasks)
        size = validate_tasks(added, self.tasks, self.mission)
        if self._size + size > PLAN_BYTES:
            # Leave out tasks that were withdrawn meanwhile.
            self._size = require_plan_size([*self.tasks.values(), *added]) - size
        self.graph.add(added, author, self.mission.limits)
        self._size += size
        for task in added:
            if author in self._held or not self._held.isdisjoint(task.needs):
                self._held |= self.downstream_of([task.id])
        self._wait([task.id for task in added])

    def round(self, task: str) -> int:
        return self.rounds.get(task, 1)

    def request_redo(self, asker: str, target: str) -> bool:
        """
        Count that *asker* has rejected *target*; says whether the limit allows a redo.

        :raises BadInputError: when it does not depend on *target*.
        """
        if target not in self.tasks or asker not in self.downstream_of([target]):
            raise BadInputError(f"{asker!r} does not depend on {target!r}")
        self._redone[target] += 1
        return self._redone[target] <= self.mission.limits.redos

    def downstream_of(self, targets: Iterable[str]) -> set[str]:
        return self.graph.downstream_of(targets)

    def is_dead(self, task: str) -> bool:
        outcome = self.outcomes.get(task)
        return outcome is not None and not outcome.has_result

    def restore(self, past: PriorRun) -> None:
        """
        Restore the state of an earlier run. Tasks that it had in flight wait again.
        """
        self.graph, self._unmet, self._ready = Graph(), {}, []
        self.graph.add([*self.mission.tasks, *past.added])
        self._size += require_plan_size(past.added)
        for task, author in past.authors.items():
            self.graph.add_request(author, task)
        for outcome in past.outcomes:
            self._settle(outcome)
            self.rounds[outcome.id] = outcome.round
        self.rounds.update(past.rounds)
        self.reasons.update(past.reasons)
        self._redone.update(past.redo_counts)
        self._wait([task.id for task in self.waiting])
        if past.redrive is not None:
            self.reopen(past.redrive.tasks, "redriven")

    def to_prior_run(self) -> PriorRun:
        asked_for = {task.id for task in self.mission.tasks}
        added = [task for task in self.tasks.values() if task.id not in asked_for]
        return PriorRun(
            added=added,
            authors=self.graph.authors,
            outcomes=list(self.outcomes.values()),
            rounds={name: number for name, number in self.rounds.items() if number > 1},
            reasons=self.reasons,
            redo_counts=dict(self._redone),
        )

    def hold_back(self, targets: list[str]) -> None:
        """
        Start nothing that depends on *targets*, which are about to be redone: it would
        read the old results.
        """
        self.reopening.append(targets)
        self._held |= self.downstream_of(targets)

    def release(self, targets: list[str]) -> None:
        """
        Undo `hold_back`: *targets* were reopened, or the mission was stopped.
        """
        before = self._held
        self.reopening.remove(targets)
        self._held = self.downstream_of(
            each for held in self.reopening for each in held
        )
        self._offer(before - self._held)

    def reopen(self, targets: list[str], reason: str) -> None:
        """
        Begin a new round of *targets* and of all that depends on them. Tasks that a
        redone one had added are withdrawn; it may add them again.
        """
        within = self.downstream_of(targets)
        again = self.graph.in_order(within)
        for name in again:
            if name in self.started:
                self.rounds[name] = self.round(name) + 1
                self.reasons[name] = reason
            self.started.discard(name)
            self.outcomes.pop(name, None)
        for name in again:
            if self.graph.authors.get(name) in within:
                self.graph.withdraw(name)
                self._unmet.pop(name, None)
        self._wait([name for name in again if name in self.tasks])

    @property
    def settled(self) -> bool:
        return len(self.outcomes) == len(self.tasks) and not self.reopening

    @property
    def waiting(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.id not in self.started]

    def next_ready(self) -> Task | None:
        while self._ready:
            name = self._ready[0][1]
            if self._may_start(name):
                return self.tasks[name]
            heappop(self._ready)
        return None

    def start(self, task: Task) -> None:
        self.started.add(task.id)

    def record(self, outcome: Outcome) -> None:
        """
        Record the end of a task, and of every task that can no longer run.
        """
        ends = deque([outcome])
        while ends:
            end = ends.popleft()
            if end is not outcome and end.id in self.started:
                continue  # ended meanwhile, for want of another need
            self._settle(end)
            ends.extend(self._skip_unreachable(end))

    def stop(self, reason: str) -> None:
        for task in self.waiting:
            self._settle(outcome_without_attempt(task, TaskStatus.SKIPPED, reason))

    def available_needs(self, task: Task) -> list[str]:
        ends = ((need, self.outcomes.get(need)) for need in task.needs)
        return [need for need, end in ends if end and end.has_result]

    def _settle(self, outcome: Outcome) -> None:
        self.started.add(outcome.id)
        self.outcomes[outcome.id] = outcome
        self._unmet.pop(outcome.id, None)

    def _wait(self, names: list[str]) -> None:
        """
        Let *names* wait for their needs, or end them where a need cannot be met.
        """
        for name in names:
            self._unmet[name] = 0
        for name in names:
            if name in self.started:
                continue  # it needed one of those before it
            needs = dict.fromkeys(self.tasks[name].needs)
            self._unmet[name] = sum(need not in self.outcomes for need in needs)
            if end := self._failed_need(name):
                self.record(end)
        self._offer(names)

    def _failed_need(self, name: str) -> Outcome | None:
        """
        Return how a waiting task ends when one of its needs will never be met.
        """
        task = self.tasks[name]
        for need in task.needs:
            outcome = self.outcomes.get(need)
            if outcome is not None and outcome.is_blocking:
                return _without(task, outcome)
            if need not in self.tasks and need not in self.graph.authors:
                return _missing_need(task, need)
        return None

    def _skip_unreachable(self, end: Outcome) -> list[Outcome]:
        """
        Update the tasks that need the ended one; returns how those end that cannot run.
        """
        ends = []
        for name in self._waiting_for(end.id):
            if end.is_blocking:
                ends.append(_without(self.tasks[name], end))
            else:
                self._unmet[name] -= 1
                self._offer([name])
        # Tasks that it added before its redo and not again, with all they had added.
        gone = deque(self.graph.withdrawn_from(end.id))
        while gone:
            lost = gone.popleft()
            self.graph.forget(lost)
            gone.extend(self.graph.withdrawn_from(lost))
            ends += [
                _missing_need(self.tasks[each], lost)
                for each in self._waiting_for(lost)
            ]
        return ends

    def _waiting_for(self, need: str) -> list[str]:
        needing = self.graph.needed_by(need)
        return [name for name in needing if name not in self.started]

    def _offer(self, names: Iterable[str]) -> None:
        for name in names:
            if self._may_start(name):
                heappush(self._ready, (self.graph.order[name], name))

    def _may_start(self, name: str) -> bool:
        waits = name in self.started or name in self._held
        return self._unmet.get(name) == 0 and not waits


def _without(task: Task, need: Outcome) -> Outcome:
    # What needs a parked task is parked too: it may still be done.
    parked = need.status is TaskStatus.PARKED
    status = TaskStatus.PARKED if parked else TaskStatus.SKIPPED
    return outcome_without_attempt(
        task, status, f"needs {need.id}, which is {need.status}"
    )


def _missing_need(task: Task, need: str) -> Outcome:
    return outcome_without_attempt(
        task, TaskStatus.SKIPPED, f"needs {need}, now no task"
    )
