"""
What a peer logs for people: which peers went and came back, which tasks it adopted.
"""

import logging
from collections.abc import Iterable

from outlast.mesh.core.effects import CancelRun, MeshEffect, StartRun, SuspendRun
from outlast.mesh.core.events import CheckpointSaved, Progressed

logger = logging.getLogger("outlast.mesh")


class ChangeLog:
    """
    The changes that the peer *me* has seen.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._live: set[str] = set()
        self._absent: set[str] = set()
        self._suspended: set[tuple[str, int]] = set()

    def log_members(self, live: Iterable[str]) -> None:
        now = set(live) - {self._me}
        for peer in sorted(self._live - now):
            logger.info("peer.away %s", peer)
        for peer in sorted(now - self._live):
            logger.info("peer.%s %s", "back" if peer in self._absent else "met", peer)
        self._absent = (self._absent | self._live) - now
        self._live = now

    def log_effect(self, effect: MeshEffect) -> None:
        """
        Log a run that starts here, or that continues after it was suspended.
        """
        match effect:
            case SuspendRun(task=task, epoch=epoch):
                self._suspended.add((task, epoch))
            case StartRun(task=task, epoch=epoch, progress=parts):
                if (task, epoch) in self._suspended:
                    self._suspended.discard((task, epoch))
                    logger.info("task.resumed %s", task)
                else:
                    logger.info("task.adopted %s from %s", task, _progress_text(parts))
            case CancelRun(task=task, epoch=epoch):
                self._suspended.discard((task, epoch))


def _progress_text(parts: dict[str, Progressed]) -> str:
    told = [_subtask_text(part, reached) for part, reached in sorted(parts.items())]
    return ", ".join(told) or "its beginning"


def _subtask_text(subtask: str, progress: Progressed) -> str:
    if isinstance(progress, CheckpointSaved):
        return f"step {progress.checkpoint.seq} of {subtask}"
    return f"the end of {subtask}"
