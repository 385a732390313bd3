"""
What a peer logs for people: which peers went and came back, which tasks it adopted.
"""

import logging
from collections.abc import Iterable

from outlast.contracts.ids import MeshRunId
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
        self._suspended: set[MeshRunId] = set()

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
            case SuspendRun(run=run):
                self._suspended.add(run)
            case StartRun(run=run) if run in self._suspended:
                self._suspended.discard(run)
                logger.info("task.resumed %s", run.task)
            case StartRun(run=run, progress=parts):
                logger.info("task.adopted %s from %s", run.task, _progress_text(parts))
            case CancelRun(run=run):
                self._suspended.discard(run)


def _progress_text(parts: dict[str, Progressed]) -> str:
    told = [_subtask_text(part, reached) for part, reached in sorted(parts.items())]
    return ", ".join(told) or "its beginning"


def _subtask_text(subtask: str, progress: Progressed) -> str:
    if isinstance(progress, CheckpointSaved):
        return f"step {progress.checkpoint.seq} of {subtask}"
    return f"the end of {subtask}"
