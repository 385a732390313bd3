"""
One place in the fleet, and the process that fills it now.
"""

import asyncio
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from outlast.fleet.blockage import Blockage
from outlast.fleet.process_kinds import (
    Attribution,
    ExitReason,
    ProcessKind,
    ProcessState,
    recorder_path,
)
from outlast.fleet.recorder_reader import count_in_flight, leaked_calls
from outlast.fleet.restart_intensity import RestartIntensity
from outlast.fleet.watchdog import Leaks, ProcessStats, Watchdog
from outlast.fleet.worker_process import WorkerProcess
from outlast.settings import Settings


@dataclass
class ProcessSlot:
    """
    :param died_before_polling: the last process did, so that its death is no reason to
        suspect what it had in flight.
    :param done: it has run the one attempt of an isolated process, and ended as it
        should.
    :param killed_for: why the watchdog has killed it, which *attribution* is for.
    :param polls: False where all of its agents are isolated.
    :param exit_reason: as it said itself, with *exit_message*.
    :param breakers: their states, by service.
    """

    kind: ProcessKind
    restart_intensity: RestartIntensity = field(default_factory=RestartIntensity)
    restarts: int = 0
    died_before_polling: bool = False
    done: bool = False

    process: WorkerProcess | None = None
    state: ProcessState = ProcessState.STARTING
    spawned_at: float = 0.0  # monotonic seconds
    has_ticked: bool = False
    polls: bool = True
    stats: ProcessStats | None = None
    breakers: dict[str, str] = field(default_factory=dict)

    watchdog: Watchdog = field(default_factory=Watchdog)
    blockage: Blockage = field(default_factory=Blockage)
    leaks: Leaks = field(default_factory=Leaks)
    killed_for: str | None = None
    attribution: Attribution = Attribution.NONE

    draining: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit_reason: ExitReason | None = None
    exit_message: str = ""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def polling(self) -> bool:
        return self.state is ProcessState.POLLING

    @property
    def serving(self) -> bool:
        return self.state in (ProcessState.STARTING, ProcessState.POLLING)

    def clear(self, settings: Settings) -> None:
        """
        Forget what was found of the process before: the next one is being started.
        """
        alone = self.kind in (ProcessKind.QUARANTINE, ProcessKind.ISOLATED)
        self.watchdog = Watchdog(settings.memory_cap, settings.timing)
        self.blockage, self.leaks = Blockage(), Leaks(quarantined=alone)
        self.killed_for = self.exit_reason = None
        self.exit_message = ""
        self.draining, self.ended = asyncio.Event(), asyncio.Event()

    def fill(self, process: WorkerProcess) -> None:
        self.process, self.state = process, ProcessState.STARTING
        self.spawned_at, self.has_ticked = time.monotonic(), False
        self.breakers = {}


def describe(slot: ProcessSlot, home: Path) -> dict[str, Any]:
    """
    Describe *slot* as `GET /health` shows it.
    """
    tick = slot.stats.tick if slot.stats else None
    recorder = recorder_path(home, slot.pid or 0)
    return {
        "pid": slot.pid,
        "kind": slot.kind,
        "state": slot.state,
        "restarts": slot.restarts,
        "in_flight": count_in_flight(recorder),
        "leaked": [asdict(each) for each in leaked_calls(recorder)],
        "last_sign_s": round(time.monotonic() - tick, 3) if tick else None,
        "blocked": slot.blockage.description or None,
        "breakers": dict(slot.breakers),
        "memory_mb": slot.stats.memory_bytes >> 20 if slot.stats else None,
    }
