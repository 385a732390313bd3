"""
The log as its peer writes it: what it adds up to, what is not durable or sent yet, and
the progress that waits to be written.
"""

from collections.abc import Callable

from outlast.contracts.mesh_timing import MESH_CHECKPOINT_S, MESH_CHECKPOINTS
from outlast.mesh.core.events import AnyFact, Progressed, event
from outlast.mesh.core.projection import MeshState, furthest
from outlast.mesh.core.replicated_log import LogChange, ReplicatedLog


class LocalLog:
    """
    The log of the peer that writes as *origin*, and the state that it adds up to.
    """

    def __init__(
        self, log: ReplicatedLog, origin: str, wall_s: Callable[[], float]
    ) -> None:
        self.log = log
        self.origin = origin
        self.state = MeshState(log)
        self._wall_s = wall_s
        self._change = LogChange()
        self._pushed = 0

    def write(self, *facts: AnyFact) -> set[str]:
        """
        Append *facts* as this peer's next; returns the tasks that they are about.
        """
        change = LogChange()
        for fact in facts:
            seq = self.log.high_water.get(self.origin, 0) + 1
            made = event(self.origin, seq, self._wall_s(), fact)
            change.add(self.log.append(made))
        return self.follow(change)

    def follow(self, change: LogChange) -> set[str]:
        """
        Let the state follow a *change* of the log; returns the tasks that may have
        changed.
        """
        self._change.add(change)
        if not change.dropped:
            return self.state.fold(change.events)
        before = self.state.open
        self.state = MeshState(self.log)
        return before | self.state.open

    def drain_changes(self) -> LogChange:
        change, self._change = self._change, LogChange()
        return change

    def drain_unsent(self) -> int | None:
        """
        The number of its own event after which the others must get more; None when
        they have been sent all.
        """
        head, after = self.log.high_water.get(self.origin, 0), self._pushed
        self._pushed = head
        return after if head > after else None


class CheckpointThrottle:
    """
    Progress on its way into the log, at a bounded rate: of each subtask the furthest.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Progressed] = {}
        self._next_s = 0.0

    def add(self, fact: Progressed) -> None:
        """
        Put *fact* in the place of what its subtask reached before; its turn stays.
        """
        key = fact.task, fact.subtask
        self._waiting[key] = furthest(self._waiting.get(key), fact)

    def due(self, now_s: float) -> list[Progressed]:
        """
        Take out what may be written now, the longest waiting first.
        """
        if now_s < self._next_s:
            return []
        self._next_s = now_s + MESH_CHECKPOINT_S
        keys = list(self._waiting)[:MESH_CHECKPOINTS]
        return [self._waiting.pop(key) for key in keys]

    def take(self, task: str) -> list[Progressed]:
        """
        Take out what is waiting of *task*: it has ended, or is another peer's.
        """
        keys = [key for key in self._waiting if key[0] == task]
        return [self._waiting.pop(key) for key in keys]
