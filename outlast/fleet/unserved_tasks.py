"""
The lookout: sees tasks that stand before a role which nobody plays any more.

A workflow cannot see whether an attempt has begun, the server can. Every process with
workflows looks at the workers' signs and at some of the open missions, and tells a
mission what it has seen; the mission decides. In peace nothing is told, so a lookout
writes no history, holds no mission open and may die at any time: another one looks.

It also sees missions that others have ended, deleted or reset in Temporal, and writes
that into their records.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.ids import AttemptId, parse
from outlast.contracts.updates import UnservedTasks
from outlast.fleet.worker_liveness import Clock, WorkerLiveness, shard
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.temporal.connect import is_cancelling
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.worker_list import list_workers

logger = logging.getLogger("outlast.fleet")

UNSERVED_CHECK_S = 0.4
# Missions looked at at a time. With more of them open each has its turn later.
MISSIONS_PER_ROUND = 10
REROUTE_LIMIT_S = 3.0
# How often it is asked for missions that run and whose record says that they do not.
RECONCILE_S = 5.0
# What a mission was told is told again after so long, in case it was lost.
RENOTIFY_S = 5.0


@dataclass
class LastNotice:
    unserved: UnservedTasks = field(default_factory=UnservedTasks)
    at: float = 0.0


class UnservedTaskMonitor:
    def __init__(
        self,
        client: Client,
        store: Store,
        clock: Clock = time.monotonic,
        liveness: WorkerLiveness | None = None,
    ) -> None:
        self._client = client
        self._books = MissionRecords(store)
        self._store = store
        self._reconciler = Reconciler(client, store)
        self._clock = clock
        self._liveness = liveness or WorkerLiveness(clock)
        self._notices: dict[str, LastNotice] = {}
        self._position = 0
        self._refreshed = asyncio.Event()

    async def run(self) -> None:
        # Apart: a mission that answers late must not keep us from seeing the workers.
        await asyncio.gather(
            self._repeat(self.refresh_workers, UNSERVED_CHECK_S),
            self._repeat(self.check_missions),
            self._repeat(self._reconciler.unknown, RECONCILE_S),
        )

    async def _repeat(
        self, look: Callable[[], Awaitable[None]], pause_s: float = 0.0
    ) -> None:
        blind = False
        while True:
            try:
                await look()
                blind = False
            except Exception as error:  # one that ended would be missed by nobody
                if not blind:
                    logger.warning("worker_list.unavailable: %r", error)
                blind = True
            await asyncio.sleep(pause_s)

    async def refresh_workers(self) -> None:
        self._liveness.update(await list_workers(self._client))
        self._refreshed.set()

    async def check_missions(self) -> None:
        """
        Check the next few missions, once the workers have been listed anew.
        """
        await self._refreshed.wait()
        self._refreshed.clear()
        missions = await self._store.run(self._books.open_missions)
        self._notices = {
            each: self._notices[each] for each in missions if each in self._notices
        }
        mine = shard(missions, self._client.identity, self._liveness.monitors)
        chosen = [mine[(self._position + at) % len(mine)] for at in range(len(mine))]
        # Before they are looked at: one that cannot be seen is in no other's way.
        self._position += MISSIONS_PER_ROUND
        glances = (self._check_mission(each) for each in chosen[:MISSIONS_PER_ROUND])
        found = await asyncio.gather(*glances, return_exceptions=True)
        for each in found:
            if isinstance(each, Exception):
                raise each

    async def _check_mission(self, mission: str) -> None:
        handle = self._client.get_workflow_handle(mission)
        try:
            described = await handle.describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            described = None
        if described is None or described.status is not WorkflowExecutionStatus.RUNNING:
            await self._reconciler.reconcile(mission)  # others have ended it
            return
        pending = described.raw_description.pending_activities
        activity_ids = sorted(
            each.activity_id for each in pending if self._is_unserved(each)
        )
        if not self._liveness.is_conclusive or (
            activity_ids and self._liveness.unknown_roles
        ):
            return  # it would be told the contrary in a moment
        live = self._liveness.served_roles if activity_ids else []
        unserved = UnservedTasks(activity_ids=activity_ids, served_roles=live)
        if self._is_news(mission, unserved):
            self._notices[mission] = LastNotice(unserved, self._clock())
            await self._request_reroute(mission, unserved)

    def _is_unserved(self, pending: PendingActivityInfo) -> bool:
        attempt = parse(AttemptId, pending.activity_id)
        waits = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        # One that failed waits for its next attempt, which may be hours away: by the
        # clock of the server, which tells the time of that only until it has come.
        due = not pending.HasField("next_attempt_schedule_time")
        if not (waits and due and attempt):
            return False
        return self._liveness.is_unserved(attempt.route)

    def _is_news(self, mission: str, unserved: UnservedTasks) -> bool:
        told = self._notices.get(mission, LastNotice())
        old = bool(unserved.activity_ids) and self._clock() - told.at > RENOTIFY_S
        return unserved != told.unserved or old

    async def _request_reroute(self, mission: str, unserved: UnservedTasks) -> None:
        handle = self._client.get_workflow_handle(mission)
        if unserved.activity_ids:
            logger.warning("task.unserved %s: %s", mission, unserved.activity_ids)
        try:
            async with asyncio.timeout(REROUTE_LIMIT_S):
                await handle.execute_update("reroute", unserved)
        except (
            WorkflowUpdateFailedError,
            RPCTimeoutOrCancelledError,  # what our own limit looks like, too
            RPCError,
            TimeoutError,
        ):
            if is_cancelling():
                raise asyncio.CancelledError from None
            # It has ended, knows it already or does not answer: it is looked at again.
            logger.debug("reroute.refused %s", mission)
