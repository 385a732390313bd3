"""
Finds tasks that wait for a role which no live worker serves, and tells their missions.

A workflow cannot see whether an attempt has begun, the server can. Every process with
workflows reads the workers' heartbeats and some of the open missions, and tells a
mission what it has seen; the mission decides. While all roles are served nothing is
sent, so this writes no history, holds no mission open and may die at any time: the
other processes do the same.

It also finds missions that others have ended, deleted or reset in Temporal, and
corrects their records.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

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
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.worker_list import list_workers
from outlast.workflows.cancellation import is_cancelling

logger = logging.getLogger("outlast.fleet")

UNSERVED_CHECK_S = 0.4
# Missions checked at a time; with more of them open each has its turn later.
MISSIONS_PER_ROUND = 10
REROUTE_LIMIT_S = 3.0
# How often missions that run are compared with records that say that they do not.
RECONCILE_S = 5.0
# A mission is told again after so long, in case the message was lost.
RENOTIFY_S = 5.0

NONE_UNSERVED = UnservedTasks()
REROUTE_REFUSED = (
    WorkflowUpdateFailedError,
    RPCTimeoutOrCancelledError,  # what our own limit looks like, too
    RPCError,
    TimeoutError,
)


class UnservedTaskMonitor:
    def __init__(
        self,
        client: Client,
        store: Store,
        clock: Clock = time.monotonic,
        liveness: WorkerLiveness | None = None,
    ) -> None:
        self._client = client
        self._records = MissionRecords(store)
        self._store = store
        self._reconciler = Reconciler(client, store)
        self._clock = clock
        self._liveness = liveness or WorkerLiveness(clock)
        # What each mission was told last, and when.
        self._notices: dict[str, tuple[UnservedTasks, float]] = {}
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
        self, check: Callable[[], Awaitable[None]], pause_s: float = 0.0
    ) -> None:
        failing = False
        while True:
            try:
                await check()
                failing = False
            except Exception as error:  # nothing would start an ended loop again
                if not failing:
                    logger.warning("worker_list.unavailable: %r", error)
                failing = True
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
        missions = await self._store.run(self._records.open_missions)
        self._notices = {
            each: self._notices[each] for each in missions if each in self._notices
        }
        mine = shard(missions, self._client.identity, self._liveness.monitors)
        chosen = [mine[(self._position + at) % len(mine)] for at in range(len(mine))]
        # Before they are checked: one that cannot be read is in no other's way.
        self._position += MISSIONS_PER_ROUND
        checks = map(self._check_mission, chosen[:MISSIONS_PER_ROUND])
        for each in await asyncio.gather(*checks, return_exceptions=True):
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
        unserved = sorted(
            each.activity_id for each in pending if self._is_unserved(each)
        )
        unsure = bool(unserved and self._liveness.unknown_roles)
        if unsure or not self._liveness.is_conclusive:
            return  # it would be told the contrary in a moment
        served = self._liveness.served_roles if unserved else []
        seen = UnservedTasks(activity_ids=unserved, served_roles=served)
        last, at = self._notices.get(mission, (NONE_UNSERVED, 0.0))
        if seen != last or (unserved and self._clock() - at > RENOTIFY_S):
            self._notices[mission] = seen, self._clock()
            await self._request_reroute(mission, seen)

    def _is_unserved(self, pending: PendingActivityInfo) -> bool:
        attempt = parse(AttemptId, pending.activity_id)
        waits = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        # One that failed waits for its next attempt, which may be hours away: by the
        # clock of the server, which tells the time of that only until it has come.
        due = not pending.HasField("next_attempt_schedule_time")
        if not (waits and due and attempt):
            return False
        return self._liveness.is_unserved(attempt.route)

    async def _request_reroute(self, mission: str, unserved: UnservedTasks) -> None:
        handle = self._client.get_workflow_handle(mission)
        if unserved.activity_ids:
            logger.warning("task.unserved %s: %s", mission, unserved.activity_ids)
        try:
            async with asyncio.timeout(REROUTE_LIMIT_S):
                await handle.execute_update("reroute", unserved)
        except REROUTE_REFUSED:
            if is_cancelling():
                raise asyncio.CancelledError from None
            # It has ended, knows it already or does not answer: it is checked again.
            logger.debug("reroute.refused %s", mission)
