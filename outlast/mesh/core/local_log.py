"""
One peer's log with what it adds up to, and what of it is not yet written down.
"""

from collections.abc import Callable

from outlast.mesh.core.events import AnyFact, event
from outlast.mesh.core.projection import MeshState
from outlast.mesh.core.replicated_log import LogChange, ReplicatedLog


class LocalLog:
    """
    The log as the peer that writes as *origin* has it, and the view of it.
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
        Let the view follow the log; returns the tasks that may stand otherwise now.
        """
        self._change.add(change)
        if not change.dropped:
            return self.state.fold(change.events)
        before = self.state.open
        self.state = MeshState(self.log)
        return before | self.state.open

    def drain_changes(self) -> LogChange:
        """
        Take out what is not yet written down.
        """
        change, self._change = self._change, LogChange()
        return change

    def unsent_after(self) -> int | None:
        """
        Tell after which of its own events the others must hear more, once.
        """
        head, after = self.log.high_water.get(self.origin, 0), self._pushed
        self._pushed = head
        return after if head > after else None
