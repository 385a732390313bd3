"""
What the events add up to: tasks, their owners, their progress, their results.

Folding is commutative and idempotent: each field is a set, a highest or a lowest, so
peers with the same events see the same, whatever came first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatchmethod

from outlast.contracts.ids import Name
from outlast.contracts.reports import MissionStatus
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    Key,
    MeshEvent,
    PeerForgotten,
    PeerJoined,
    SubtaskFinished,
    TaskAdopted,
    TaskFinished,
    TaskSubmitted,
)
from outlast.mesh.core.ownership import Adoption, current_adoption, winner

Progressed = CheckpointSaved | SubtaskFinished


@dataclass
class MeshTask:
    """
    One task, as far as it is known here.

    :param submissions: by where they stand in the log, each with its origin's time;
        none while only the task's other events have arrived.
    :param subtasks: of each of the mission's tasks the furthest progress.
    """

    task: Name
    submissions: dict[Key, tuple[float, TaskSubmitted]] = field(default_factory=dict)
    adoptions: set[tuple[int, str]] = field(default_factory=set)
    subtasks: dict[Name, Progressed] = field(default_factory=dict)
    finishes: dict[Key, TaskFinished] = field(default_factory=dict)
    newest_s: float = 0.0

    @property
    def submitted_as(self) -> Key | None:
        """
        Where the submission that counts stands: the earliest, where both sides of a
        split were given the same id.
        """
        found = self.submissions
        return min(found, key=lambda key: (found[key][0], *key), default=None)

    @property
    def submission(self) -> TaskSubmitted | None:
        """
        What is to be done.
        """
        key = self.submitted_as
        return None if key is None else self.submissions[key][1]

    @property
    def conflicting_submissions(self) -> set[Key]:
        """
        Submissions of the same id with other content, which lost.
        """
        mesh_task = self.submission
        return {
            key
            for key, (_, each) in self.submissions.items()
            if mesh_task and each.digest != mesh_task.digest
        }

    @property
    def adopted(self) -> Adoption | None:
        """
        Who took the task last.
        """
        each = (Adoption(epoch=epoch, owner=owner) for epoch, owner in self.adoptions)
        return current_adoption(self.task, each)

    @property
    def result(self) -> TaskFinished | None:
        """
        The one result that stands. A run that was cancelled while another peer had the
        task in a later epoch was cancelled for that.
        """
        ended = self.finishes.values()
        epochs = [*(epoch for epoch, _ in self.adoptions), *(f.epoch for f in ended)]
        return winner(
            each
            for each in ended
            if each.status is not MissionStatus.CANCELLED or each.epoch == max(epochs)
        )

    @property
    def superseded_results(self) -> list[TaskFinished]:
        """
        Results of other runs, which do not stand.
        """
        mesh_task = self.result
        return [each for each in self.finishes.values() if each is not mesh_task]

    @property
    def open(self) -> bool:
        """
        Whether it is known what to do, and not yet done.
        """
        return bool(self.submissions) and self.result is None


def progress_order(progress: Progressed) -> tuple[int, int, int, str]:
    """
    Order the progress of one part: a later epoch knew the earlier ones.
    """
    finished = isinstance(progress, SubtaskFinished)
    seq = 2**63 if finished else progress.checkpoint.seq  # type: ignore[union-attr]
    return progress.epoch, progress.round, seq, progress.model_dump_json()


class MeshState:
    """
    All tasks and peers that *events* tell of.
    """

    def __init__(self, events: Iterable[MeshEvent] = ()) -> None:
        self.tasks: dict[Name, MeshTask] = {}
        self.open: set[Name] = set()  # of them, those to be done
        self.unread = 0  # events that this release does not understand
        self._joined: dict[Name, int] = {}
        self._forgotten: dict[Name, int] = {}
        self.fold(events)

    @property
    def peers(self) -> set[Name]:
        """
        Those that joined and were not forgotten since.
        """
        return {
            peer
            for peer, nth in self._joined.items()
            if nth > self._forgotten.get(peer, 0)
        }

    def joined(self, peer: Name) -> int:
        """
        Tell how often *peer* has joined.
        """
        return self._joined.get(peer, 0)

    def fold(self, events: Iterable[MeshEvent]) -> set[Name]:
        """
        Take *events* in; returns the tasks that they are about.
        """
        touched: set[Name] = set()
        for each in events:
            fact = each.fact
            if fact is None:
                self.unread += 1
                continue
            self._apply(fact, each)
            if not isinstance(fact, PeerJoined | PeerForgotten):
                touched.add(fact.task)
        self.open -= touched
        self.open |= {task for task in touched if self.tasks[task].open}
        return touched

    def of(self, task: Name) -> MeshTask:
        """
        Look up what is known of *task*, a blank where nothing is.
        """
        found = self.tasks.get(task)
        return MeshTask(task) if found is None else found

    def _task_of(self, task: Name, event: MeshEvent) -> MeshTask:
        found = self.tasks.setdefault(task, MeshTask(task))
        found.newest_s = max(found.newest_s, event.at_s)
        return found

    @singledispatchmethod
    def _apply(self, fact: AnyFact, event: MeshEvent) -> None:
        raise TypeError(f"{type(fact).__name__} is no fact of the mesh")

    @_apply.register
    def _(self, fact: TaskSubmitted, event: MeshEvent) -> None:
        submissions = self._task_of(fact.task, event).submissions
        submissions[event.key] = event.at_s, fact

    @_apply.register
    def _(self, fact: TaskAdopted, event: MeshEvent) -> None:
        self._task_of(fact.task, event).adoptions.add((fact.epoch, fact.owner))

    @_apply.register(CheckpointSaved)
    @_apply.register(SubtaskFinished)
    def _(self, fact: Progressed, event: MeshEvent) -> None:
        parts = self._task_of(fact.task, event).subtasks
        known = parts.get(fact.subtask)
        if known is None or progress_order(fact) > progress_order(known):
            parts[fact.subtask] = fact

    @_apply.register
    def _(self, fact: TaskFinished, event: MeshEvent) -> None:
        self._task_of(fact.task, event).finishes[event.key] = fact

    @_apply.register
    def _(self, fact: PeerJoined, event: MeshEvent) -> None:
        self._joined[fact.peer] = max(fact.join_count, self._joined.get(fact.peer, 0))

    @_apply.register
    def _(self, fact: PeerForgotten, event: MeshEvent) -> None:
        self._forgotten[fact.peer] = max(
            fact.join_count, self._forgotten.get(fact.peer, 0)
        )
