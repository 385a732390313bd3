"""
What has blocked a worker: found while it is silent, told when it is over.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from outlast.fleet.recorder_reader import recent_names
from outlast.fleet.stack_dumps import Blocker, sample
from outlast.fleet.watchdog import KillDecision, KillReason, Watchdog

logger = logging.getLogger("outlast.fleet")


@dataclass
class Blockage:
    """
    The silences of one process, from check to check.

    :param description: the last one in words, "" before the first.
    """

    description: str = ""
    _blocker: Blocker | None = None
    _silent_s: float = 0.0
    _logged: set[tuple[str, ...]] = field(default_factory=set)
    _sampling: "asyncio.Task[None] | None" = field(default=None)

    def check(self, pid: int, stack: Path, watchdog: Watchdog, recorder: Path) -> None:
        """
        Ask a process that has been silent for too long what blocks it, once a silence,
        and log it when its event loop turns again.
        """
        silent_s = watchdog.silence_s
        if silent_s < self._silent_s:
            self._end(pid, recorder)
        self._silent_s = silent_s
        if self._blocker is not None:
            self.description = self._blocker.describe(silent_s)
        elif silent_s >= watchdog.timing.blocked_report_s and self._sampling is None:
            self._sampling = asyncio.ensure_future(self._sample(pid, stack))

    def explain(self, decision: KillDecision) -> str:
        blocked = decision.reason in (KillReason.BUSY, KillReason.IDLE)
        if self._blocker is None or not blocked:
            return decision.sentence
        return f"{decision.sentence}: {self._blocker.describe(self._silent_s)}"

    async def _sample(self, pid: int, stack: Path) -> None:
        self._blocker = await sample(pid, stack)

    def _end(self, pid: int, recorder: Path) -> None:
        if self._blocker is not None:
            self.description = self._blocker.describe(self._silent_s)
            names = [f"{each.mission}/{each.task}" for each in recent_names(recorder)]
            told = self._blocker.agent, self._blocker.place, *names
            if told not in self._logged:  # once an attempt, however often it blocks
                self._logged.add(told)
                held = ", ".join(names) or "nothing"
                logger.warning(
                    "agent.blocked %s: %s; attempts in that process: %s",
                    pid,
                    self.description,
                    held,
                )
        self._blocker = self._sampling = None
