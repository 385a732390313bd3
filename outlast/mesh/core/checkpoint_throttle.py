"""
Progress on its way into the log, at a bounded rate: of each part the latest only.
"""

from outlast.contracts.mesh_timing import MESH_CHECKPOINT_S, MESH_CHECKPOINTS
from outlast.mesh.core.projection import Progressed, progress_order


class CheckpointThrottle:
    """
    What runs here have reached since the others last heard of it.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Progressed] = {}
        self._next_s = 0.0

    def add(self, fact: Progressed) -> None:
        """
        Take *fact* in the place of what the same part reached before. Its turn stays.
        """
        key = fact.task, fact.subtask
        known = self._waiting.get(key)
        if known is None or progress_order(fact) > progress_order(known):
            self._waiting[key] = fact

    def forget(self, task: str) -> None:
        """
        Drop what is waiting of *task*: it is done, or somebody else's.
        """
        self._waiting = {key: v for key, v in self._waiting.items() if key[0] != task}

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
        Take out what is waiting of *task*, before its end is written.
        """
        found = [fact for key, fact in self._waiting.items() if key[0] == task]
        self.forget(task)
        return found
