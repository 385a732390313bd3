"""
What the events add up to: tasks, their owners, their progress, their results.

Folding is commutative and idempotent: each field is a set, a highest or a lowest, so
peers with the same events see the same, in whatever order the events came.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from outlast.contracts.ids import Name
from outlast.contracts.reports import MissionStatus
from outlast.mesh.core.events import (
    CheckpointSaved,
    Key,
    MeshEvent,
    PeerForgotten,
    PeerJoined,
    Progressed,
    SubtaskFinished,
    TaskAdopted,
    TaskFinished,
    TaskSubmitted,
)
from outlast.mesh.core.ownership import Adoption, current_adoption, winner


@dataclass
class MeshTask:
    """
    One task, as far as it is known here.

    :param submissions: by the key of their event, each with its origin's time; none
        while only other events of the task have arrived.
    :param subtasks: the furthest progress of each of the mission's tasks.
    """

    task: Name
    submissions: dict[Key, tuple[float, TaskSubmitted]] = field(default_factory=dict)
    adoptions: set[Adoption] = field(default_factory=set)
    subtasks: dict[Name, Progressed] = field(default_factory=dict)
    finishes: dict[Key, TaskFinished] = field(default_factory=dict)
    newest_s: float = 0.0

    def fold(
        self,
        event: MeshEvent,
        fact: TaskSubmitted | TaskAdopted | Progressed | TaskFinished,
    ) -> None:
        self.newest_s = max(self.newest_s, event.at_s)
        match fact:
            case TaskSubmitted():
                self.submissions[event.key] = event.at_s, fact
            case TaskAdopted():
                self.adoptions.add(Adoption(fact.epoch, fact.owner))
            case CheckpointSaved() | SubtaskFinished():
                known = self.subtasks.get(fact.subtask)
                self.subtasks[fact.subtask] = furthest(known, fact)
            case TaskFinished():
                self.finishes[event.key] = fact

    @property
    def submitted_as(self) -> Key | None:
        """
        The key of the submission that counts: the earliest, where both sides of a
        split were given the same id.
        """
        found = self.submissions
        return min(found, key=lambda key: (found[key][0], *key), default=None)

    @property
    def submission(self) -> TaskSubmitted | None:
        key = self.submitted_as
        return None if key is None else self.submissions[key][1]

    @property
    def adopted(self) -> Adoption | None:
        return current_adoption(self.task, self.adoptions)

    @property
    def result(self) -> TaskFinished | None:
        """
        The one result that stands. A run that was cancelled while another peer had the
        task in a later epoch was cancelled for that reason, and is no result.
        """
        ended = self.finishes.values()
        epochs = {each.epoch for each in self.adoptions} | {
            each.epoch for each in ended
        }
        return winner(
            each
            for each in ended
            if each.status is not MissionStatus.CANCELLED or each.epoch == max(epochs)
        )

    @property
    def superseded_results(self) -> list[TaskFinished]:
        result = self.result
        return [each for each in self.finishes.values() if each is not result]

    @property
    def open(self) -> bool:
        return bool(self.submissions) and self.result is None


def furthest(known: Progressed | None, new: Progressed) -> Progressed:
    """
    Choose between two progresses of one subtask; *known* where they are equal.
    """
    return new if known is None else max(known, new, key=_progress_order)


def _progress_order(progress: Progressed) -> tuple[int, int, float, str]:
    # The owner of a later epoch knew the progress of the earlier ones.
    seq = inf if isinstance(progress, SubtaskFinished) else progress.checkpoint.seq
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
        The peers that joined and were not forgotten since.
        """
        return {
            peer
            for peer, count in self._joined.items()
            if count > self._forgotten.get(peer, 0)
        }

    def join_count(self, peer: Name) -> int:
        return self._joined.get(peer, 0)

    def fold(self, events: Iterable[MeshEvent]) -> set[Name]:
        """
        Take *events* in; returns the tasks that they are about.
        """
        touched: set[Name] = set()
        for event in events:
            match event.fact:
                case None:
                    self.unread += 1
                case PeerJoined(peer=peer, join_count=count):
                    self._joined[peer] = max(count, self._joined.get(peer, 0))
                case PeerForgotten(peer=peer, join_count=count):
                    self._forgotten[peer] = max(count, self._forgotten.get(peer, 0))
                case fact:
                    touched.add(fact.task)
                    self.tasks.setdefault(fact.task, MeshTask(fact.task)).fold(
                        event, fact
                    )
        self.open -= touched
        self.open |= {task for task in touched if self.tasks[task].open}
        return touched

    def of(self, task: Name) -> MeshTask:
        return self.tasks.get(task) or MeshTask(task)
