"""
One peer's log with what it adds up to, and what of it is not yet written down.
"""

from collections.abc import Callable

from outlast.mesh.core.events import AnyFact, event
from outlast.mesh.core.projection import View
from outlast.mesh.core.replicated_log import Change, EventSet


class Journal:
    """
    The log as the peer that writes as *origin* has it, and the view of it.
    """

    def __init__(self, log: EventSet, origin: str, wall_s: Callable[[], float]) -> None:
        self.log = log
        self.origin = origin
        self.view = View(log)
        self._wall_s = wall_s
        self._change = Change()
        self._pushed = 0

    def write(self, *facts: AnyFact) -> set[str]:
        """
        Append *facts* as this peer's next; returns the tasks that they are about.
        """
        change = Change()
        for fact in facts:
            seq = self.log.heads.get(self.origin, 0) + 1
            made = event(self.origin, seq, self._wall_s(), fact)
            change.add(self.log.append(made))
        return self.follow(change)

    def follow(self, change: Change) -> set[str]:
        """
        Let the view follow the log; returns the tasks that may stand otherwise now.
        """
        self._change.add(change)
        if not change.dropped:
            return self.view.fold(change.events)
        before = self.view.open
        self.view = View(self.log)
        return before | self.view.open

    def take(self) -> Change:
        """
        Take out what is not yet written down.
        """
        change, self._change = self._change, Change()
        return change

    def unsent(self) -> int | None:
        """
        Tell after which of its own events the others must hear more, once.
        """
        head, after = self.log.heads.get(self.origin, 0), self._pushed
        self._pushed = head
        return after if head > after else None
