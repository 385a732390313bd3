"""
What a worker process has, in one object.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from outlast.agents.agent import Agent
from outlast.contracts.errors import OutlastError
from outlast.fleet.metrics import MetricsOutbox
from outlast.fleet.parent_channel import send_exit_reason
from outlast.fleet.process_kinds import ProcessKind
from outlast.settings import Settings
from outlast.telemetry import setup

# After the drain time attempts have been cancelled; one that does not end is left.
WORKER_STOP_S = 2.0


@dataclass
class ProcessContext:
    """
    What this process has, made at its start and handed down.

    :param ends: all of our ends of the parent's channel; the first one is the event
        loop's, the last one is nobody else's.
    :param stop: set when the process is to drain.
    """

    kind: ProcessKind
    ends: list[socket.socket]
    settings: Settings
    agents: dict[str, Agent] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    outbox: MetricsOutbox = field(default_factory=MetricsOutbox)
    watching: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.settings.home.resolve()

    @property
    def stop_limit_s(self) -> float:
        return self.settings.drain_grace_s + WORKER_STOP_S

    def start(self, watch: Coroutine[Any, Any, None]) -> None:
        """
        Have *watch* run until the process has drained.
        """
        self.watching.append(asyncio.ensure_future(watch))

    def exit_for(self, error: OutlastError) -> NoReturn:
        """
        End the process for *error*, and say so in the log and to the parent.
        """
        print(f"{self.kind}: {error}", file=sys.stderr, flush=True)
        send_exit_reason(self.ends[-1], error)
        setup.stop_telemetry()
        os._exit(1)
