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
from outlast.contracts.orders import Sighting
from outlast.fleet.worker_liveness import Clock, Horizon, share
from outlast.ledger.missions import Books
from outlast.store.database import Store
from outlast.temporal.connect import is_cancelled
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.worker_list import signs

logger = logging.getLogger("outlast.fleet")

LOOK_S = 0.4
# Missions looked at at a time. With more of them open each has its turn later.
GLANCES = 10
TELL_LIMIT_S = 3.0
# How often it is asked for missions that run and whose record says that they do not.
RECONCILE_S = 5.0
# What a mission was told is told again after so long, in case it was lost.
AGAIN_S = 5.0


@dataclass
class Told:
    """
    What a mission was told last, and when.
    """

    sighting: Sighting = field(default_factory=Sighting)
    at: float = 0.0


class Lookout:
    """
    The lookout of one process with workflows, which gives its signs as *identity*.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        clock: Clock = time.monotonic,
        horizon: Horizon | None = None,
    ) -> None:
        self._client = client
        self._books = Books(store)
        self._store = store
        self._reconciler = Reconciler(client, store)
        self._clock = clock
        self._horizon = horizon or Horizon(clock)
        self._told: dict[str, Told] = {}
        self._turn = 0
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """
        Look until cancelled.
        """
        # Apart: a mission that answers late must not keep us from seeing the workers.
        await asyncio.gather(
            self._again(self.watch, LOOK_S),
            self._again(self.visit),
            self._again(self._reconciler.unknown, RECONCILE_S),
        )

    async def _again(
        self, look: Callable[[], Awaitable[None]], pause_s: float = 0.0
    ) -> None:
        blind = False
        while True:
            try:
                await look()
                blind = False
            except Exception as error:  # one that ended would be missed by nobody
                if not blind:
                    logger.warning("lookout.blind: %r", error)
                blind = True
            await asyncio.sleep(pause_s)

    async def watch(self) -> None:
        """
        Look once at the workers' signs.
        """
        self._horizon.look(await signs(self._client))
        self._looked.set()

    async def visit(self) -> None:
        """
        Look once at the next few missions, when the workers have been looked at.
        """
        await self._looked.wait()
        self._looked.clear()
        missions = await self._store.run(self._books.open_missions)
        self._told = {each: self._told[each] for each in missions if each in self._told}
        mine = share(missions, self._client.identity, self._horizon.lookouts)
        chosen = [mine[(self._turn + at) % len(mine)] for at in range(len(mine))]
        # Before they are looked at: one that cannot be seen is in no other's way.
        self._turn += GLANCES
        glances = (self._glance(each) for each in chosen[:GLANCES])
        found = await asyncio.gather(*glances, return_exceptions=True)
        for each in found:
            if isinstance(each, Exception):
                raise each

    async def _glance(self, mission: str) -> None:
        """
        Look at one mission, and tell it what it should know.
        """
        handle = self._client.get_workflow_handle(mission)
        try:
            described = await handle.describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            described = None
        if described is None or described.status is not WorkflowExecutionStatus.RUNNING:
            await self._reconciler.mend(mission)  # others have ended it
            return
        pending = described.raw_description.pending_activities
        stranded = sorted(
            each.activity_id for each in pending if self._is_stranded(each)
        )
        if not self._horizon.sure or (stranded and self._horizon.doubtful):
            return  # it would be told the contrary in a moment
        live = self._horizon.live if stranded else []
        sighting = Sighting(stranded=stranded, live=live)
        if self._is_news(mission, sighting):
            self._told[mission] = Told(sighting, self._clock())
            await self._tell(mission, sighting)

    def _is_stranded(self, pending: PendingActivityInfo) -> bool:
        attempt = parse(AttemptId, pending.activity_id)
        waits = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        # One that failed waits for its next attempt, which may be hours away: by the
        # clock of the server, which tells the time of that only until it has come.
        due = not pending.HasField("next_attempt_schedule_time")
        if not (waits and due and attempt):
            return False
        return self._horizon.gone(attempt.route)

    def _is_news(self, mission: str, sighting: Sighting) -> bool:
        told = self._told.get(mission, Told())
        old = bool(sighting.stranded) and self._clock() - told.at > AGAIN_S
        return sighting != told.sighting or old

    async def _tell(self, mission: str, sighting: Sighting) -> None:
        handle = self._client.get_workflow_handle(mission)
        if sighting.stranded:
            logger.warning("task.stranded %s: %s", mission, sighting.stranded)
        try:
            async with asyncio.timeout(TELL_LIMIT_S):
                await handle.execute_update("reroute", sighting)
        except (
            WorkflowUpdateFailedError,
            RPCTimeoutOrCancelledError,  # what our own limit looks like, too
            RPCError,
            TimeoutError,
        ):
            if is_cancelled():
                raise asyncio.CancelledError from None
            # It has ended, knows it already or does not answer: it is looked at again.
            logger.debug("sighting.refused %s", mission)
