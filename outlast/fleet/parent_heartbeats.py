"""
Heartbeats for a worker that is silent, sent by its parent: where the heartbeat timeout
is shorter than the silence that the watchdog allows, a blocked worker would else be
taken for a lost host. The parent lives on that host and is lost with it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.client import AsyncActivityCancelledError, Client
from temporalio.service import RPCError

from outlast.contracts.attempts import Checkpoint, Heartbeat
from outlast.contracts.timing import Timing
from outlast.fleet.recorder_reader import InFlightAttempt, attempts_in_flight

logger = logging.getLogger("outlast.fleet")


class ParentHeartbeats:
    def __init__(self, timing: Timing, client: Callable[[], Awaitable[Client]]) -> None:
        self._timing = timing
        self._client = client
        self._sent_at: dict[Path, float] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def check(self, now: float, silent_s: float, recorder: Path) -> None:
        """
        Send what is due for the worker of *recorder*, silent for *silent_s*.
        """
        if not self._timing.parent_heartbeats:
            return
        if silent_s < self._timing.parent_heartbeats_after_s:
            self._sent_at.pop(recorder, None)
            return
        if now - self._sent_at.get(recorder, -1e9) < self._timing.heartbeat_s:
            return
        self._sent_at[recorder] = now
        task = asyncio.ensure_future(self._send_all(attempts_in_flight(recorder)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_all(self, attempts: list[InFlightAttempt]) -> None:
        client = await self._client()
        await asyncio.gather(*(self._send(client, each) for each in attempts))

    async def _send(self, client: Client, attempt: InFlightAttempt) -> None:
        heartbeat = Heartbeat(checkpoint=attempt.checkpoint or Checkpoint())
        handle = client.get_async_activity_handle(task_token=attempt.token)
        try:
            await handle.heartbeat(heartbeat.model_dump(mode="json"))
        except AsyncActivityCancelledError:
            return  # its worker learns of it when it is back
        except RPCError as error:
            # It has ended meanwhile, or the server is away and counts no timeouts.
            logger.debug("heartbeat.not_sent %s: %s", attempt.task, error.message)
