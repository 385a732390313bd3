"""
What a peer's log tells a person who looks on: who went, who came back, what it took on.
"""

import logging
from collections.abc import Iterable

from outlast.mesh.core.effects import Cancel, Effect, Hold, Run
from outlast.mesh.core.events import CheckpointSaved
from outlast.mesh.core.projection import Progressed

logger = logging.getLogger("outlast.mesh")


class Diary:
    """
    The diary of the peer *me*.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._live: set[str] = set()
        self._away: set[str] = set()
        self._held: set[tuple[str, int]] = set()

    def see(self, live: Iterable[str]) -> None:
        """
        Note who is *live* now.
        """
        now = set(live) - {self._me}
        for peer in sorted(self._live - now):
            logger.info("peer.away %s", peer)
        for peer in sorted(now - self._live):
            logger.info("peer.%s %s", "back" if peer in self._away else "met", peer)
        self._away = (self._away | self._live) - now
        self._live = now

    def note(self, effect: Effect) -> None:
        """
        Note a run that begins here; one that was held is no news when it goes on.
        """
        match effect:
            case Hold(task=task, epoch=epoch):
                self._held.add((task, epoch))
            case Run(task=task, epoch=epoch, parts=parts):
                if (task, epoch) in self._held:
                    self._held.discard((task, epoch))
                    logger.info("task.resumed %s", task)
                else:
                    logger.info("task.adopted %s from %s", task, _reached(parts))
            case Cancel(task=task, epoch=epoch):
                self._held.discard((task, epoch))


def _reached(parts: dict[str, Progressed]) -> str:
    told = [_told(part, reached) for part, reached in sorted(parts.items())]
    return ", ".join(told) or "its beginning"


def _told(part: str, reached: Progressed) -> str:
    if isinstance(reached, CheckpointSaved):
        return f"step {reached.checkpoint.seq} of {part}"
    return f"the end of {part}"
