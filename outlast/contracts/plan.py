"""
A mission's tasks as a graph: what may run next, and what must be done again.

Pure: the starter checks a mission with it before anything starts, the supervisor
workflow keeps its state in it and checks an agent's follow-up tasks the same way.
"""

from collections import Counter
from collections.abc import Iterable

from outlast.contracts.errors import BadInputError
from outlast.contracts.models import Mission, Past, Task
from outlast.contracts.reports import Outcome, Status
from outlast.contracts.validity import check

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
        self.rounds: dict[str, int] = {}  # where there was more than one
        self.reasons: dict[str, str] = {}  # why there was more than one
        self._redone: Counter[str] = Counter()
        self._authors: dict[str, str] = {}
        self._withdrawn: dict[str, str] = {}  # tasks that their authors may repeat
        self.extend(mission.tasks)

    def extend(self, tasks: Iterable[Task], author: str | None = None) -> None:
        """
        Add *tasks*, all or none of them, which the task *author* has asked for.

        :raises BadInputError: in one sentence, naming the task.
        """
        added = list(tasks)
        check(added, self.tasks, self.mission)
        self.tasks.update({task.id: task for task in added})
        if author is not None:
            self._authors.update({task.id: author for task in added})

    def round(self, task: str) -> int:
        """
        Say which round of *task* this is, from 1.
        """
        return self.rounds.get(task, 1)

    def ask_again(self, asker: str, target: str) -> bool:
        """
        Count that *asker* wants *target* done again; says whether it still may.

        :raises BadInputError: when it does not depend on *target*.
        """
        if target not in self.tasks or asker not in self.after([target]):
            raise BadInputError(f"{asker!r} does not depend on {target!r}")
        self._redone[target] += 1
        return self._redone[target] <= self.mission.limits.redos

    def after(self, targets: Iterable[str]) -> set[str]:
        """
        Find *targets* and all that depends on them or was asked for by them.
        """
        found: set[str] = set()
        wave = set(targets)
        while wave:
            found |= wave
            wave = {
                task.id
                for task in self.tasks.values()
                if found.intersection(task.needs) or self._authors.get(task.id) in found
            } - found
        return found

    def given_up(self, task: str) -> bool:
        """
        Say whether *task* has ended without a result.
        """
        outcome = self.outcomes.get(task)
        return outcome is not None and outcome.status not in ANSWERED

    def take_up(self, past: Past) -> None:
        """
        Stand where the mission had ended, with its redriven tasks to be done again.
        """
        self.tasks = {task.id: task for task in past.tasks}
        self._authors = dict(past.authors)
        for outcome in past.outcomes:
            self.outcomes[outcome.id] = outcome
            self.started.add(outcome.id)
            self.rounds[outcome.id] = outcome.round
        self.reopen(past.redrive.tasks, "redriven")

    def reopen(self, targets: list[str], reason: str) -> None:
        """
        Begin a new round of *targets* and of all that comes after them. What a redone
        task had asked for it may ask for again.
        """
        again = self.after(targets)
        for name in again:
            if name in self.started:
                self.rounds[name] = self.round(name) + 1
                self.reasons[name] = reason
            self.started.discard(name)
            self.outcomes.pop(name, None)
            if self._authors.get(name) in again:
                self._withdrawn[name] = self._authors.pop(name)
                del self.tasks[name]
        self._settle_the_hopeless()

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
        self._settle_the_hopeless(outcome.id)

    def _settle_the_hopeless(self, author: str | None = None) -> None:
        """
        Settle the waiting tasks that can no longer run; *author* has just ended.
        """
        for task in self.waiting:
            if task.id in self.outcomes:
                continue
            if broken := self._broken_need(task):
                self.record(_without(task, broken))
            elif lost := self._lost_need(task, author):
                self.record(settle(task, Status.SKIPPED, f"needs {lost}, now no task"))

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
        Find a required need that ended without a result, and not for want of budget.
        """
        for need in task.needs:
            outcome = self.outcomes.get(need)
            if outcome is None or outcome.forgone or not outcome.required:
                continue
            if outcome.status not in ANSWERED:
                return outcome
        return None

    def _lost_need(self, task: Task, author: str | None) -> str | None:
        """
        Find a need that *author*, done again, has not asked for again.
        """
        lost = (each for each in task.needs if each not in self.tasks)
        # Of what was withdrawn before the mission's end no author is known any more.
        whose = self._withdrawn.get
        return next((each for each in lost if whose(each) in (None, author)), None)


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
    needed = [each for each in ends if each.required]
    if needed and all(each.forgone for each in needed):
        return Status.FAILED  # there is nothing that it has come to
    required = {each.status for each in needed if not each.forgone}
    if required & {Status.DEAD, Status.SKIPPED}:
        return Status.FAILED
    if Status.PARKED in required:
        return Status.PARKED
    if all(each.status is Status.DONE for each in ends):
        return Status.COMPLETED
    return Status.DEGRADED
