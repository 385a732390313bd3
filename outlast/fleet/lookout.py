"""
The lookout: sees tasks that stand before a role which nobody plays any more.

A workflow cannot see whether an attempt has begun, the server can. Every process with
workflows looks at the workers' signs and at some of the open missions, and tells a
mission what it has seen; the mission decides. In peace nothing is told, so a lookout
writes no history, holds no mission open and may die at any time: another one looks.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import PendingActivityState, WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.names import MISSIONS_QUEUE, queue_of, route_of
from outlast.contracts.orders import Sighting
from outlast.contracts.policies import BOOT_S, GONE_S, SILENCE_S
from outlast.runtime.connect import is_cancelled
from outlast.runtime.signs import signs
from outlast.store.books import Books
from outlast.store.database import Store

logger = logging.getLogger("outlast.fleet")

LOOK_S = 0.4
# Missions looked at at a time. With more of them open each has its turn later.
GLANCES = 10
TELL_LIMIT_S = 3.0
# What a mission was told is told again after so long, in case it was lost.
AGAIN_S = 5.0

Clock = Callable[[], float]


@dataclass
class Seen:
    """
    One worker as it was seen last.

    :param sign: the time of its last sign, by its own clock.
    :param at: when that sign was new, by ours.
    """

    sign: int
    at: float


class Horizon:
    """
    Which roles are played, judged by signs that go on coming.

    Whether a sign is new is seen from the signs themselves, so that the clocks of the
    workers' hosts may be wrong.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._workers: dict[str, Seen] = {}
        self._played: dict[str, float] = {}  # queue: when it was last
        self._heard: dict[str, float] = {}  # queue: when its newest sign was new
        self._silent: set[str] = set()  # queues whose last worker gives no sign
        self._began = clock()
        self._steady = False
        self.lookouts: list[str] = []  # those that look themselves, by identity

    def look(self, found: list[WorkerHeartbeat]) -> None:
        """
        Take in what the server lists now.
        """
        now = self._clock()
        running = {
            each.worker_instance_key: each
            for each in found
            if each.status == WorkerStatus.WORKER_STATUS_RUNNING
        }
        self._workers = {key: self._seen(key, running[key], now) for key in running}
        live = [
            each
            for key, each in running.items()
            if now - self._workers[key].at <= SILENCE_S
        ]
        self._steady = any(_age_s(each) > BOOT_S for each in live)
        self._played |= {each.task_queue: now for each in live}
        self._silent = self._where_the_last_is_silent(running, now)
        self.lookouts = [
            each.worker_identity for each in live if each.task_queue == MISSIONS_QUEUE
        ]

    def gone(self, role: str) -> bool:
        """
        Say whether nobody plays *role*, while somebody is there and has been for long
        enough to say so.
        """
        queue = queue_of(role)
        since_s = self._clock() - self._played.get(queue, self._began)
        return self._steady and (queue in self._silent or since_s > GONE_S)

    @property
    def live(self) -> list[str]:
        """
        List the roles that are played.
        """
        start = queue_of("")
        roles = [
            each.removeprefix(start) for each in self._played if each.startswith(start)
        ]
        return sorted(role for role in roles if not self.gone(role))

    def _where_the_last_is_silent(
        self, running: dict[str, WorkerHeartbeat], now: float
    ) -> set[str]:
        """
        Find the queues whose newest sign is old, and of one who has not signed off.

        A lost host's workers stay on the list for minutes. Others may have played since
        and have just signed off for whoever is about to give a first sign.
        """
        for key, each in running.items():
            heard = self._heard.get(each.task_queue, -math.inf)
            self._heard[each.task_queue] = max(heard, self._workers[key].at)
        return {
            each.task_queue
            for key, each in running.items()
            if now - self._workers[key].at > SILENCE_S
            and self._workers[key].at >= self._heard[each.task_queue]
        }

    def _seen(self, key: str, sign: WorkerHeartbeat, now: float) -> Seen:
        at = sign.heartbeat_time.ToNanoseconds()
        before = self._workers.get(key)
        return before if before and before.sign == at else Seen(at, now)


def share(missions: list[str], mine: str, live: list[str]) -> list[str]:
    """
    Choose whose missions one lookout looks at: every so many-th, by its place among
    the *live* ones; all of them where it is not listed yet.
    """
    if mine not in live:
        return missions
    return missions[sorted(live).index(mine) :: len(live)]


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
        self._clock = clock
        self._horizon = horizon or Horizon(clock)
        self._told: dict[str, Told] = {}
        self._turn = 0
        self._blind = False

    async def run(self) -> None:
        """
        Look until cancelled.
        """
        while True:
            try:
                await self.look()
                self._blind = False
            except Exception as error:  # one that ended would be missed by nobody
                if not self._blind:
                    logger.warning("lookout.blind: %r", error)
                self._blind = True
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """
        Look once: at the workers, then at the next few missions.
        """
        self._horizon.look(await signs(self._client))
        missions = await self._store.run(self._books.open_missions)
        self._told = {each: self._told[each] for each in missions if each in self._told}
        mine = share(missions, self._client.identity, self._horizon.lookouts)
        chosen = [mine[(self._turn + at) % len(mine)] for at in range(len(mine))]
        # Before they are looked at: one that cannot be seen is in no other's way.
        self._turn += GLANCES
        glances = (self._glance(each) for each in chosen[:GLANCES])
        found = await asyncio.gather(*glances, return_exceptions=True)
        for each in found:
            if each is not None:
                raise each

    async def _glance(self, mission: str) -> None:
        """
        Look at one mission, and tell it what it should know.
        """
        handle = self._client.get_workflow_handle(mission)
        try:
            described = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return  # it is being handed over
            raise
        pending = described.raw_description.pending_activities
        stranded = sorted(
            each.activity_id for each in pending if self._is_stranded(each)
        )
        live = self._horizon.live if stranded else []
        sighting = Sighting(stranded=stranded, live=live)
        if self._is_news(mission, sighting):
            self._told[mission] = Told(sighting, self._clock())
            await self._tell(mission, sighting)

    def _is_stranded(self, pending: PendingActivityInfo) -> bool:
        route = route_of(pending.activity_id)
        waits = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        # One that failed waits for its next attempt, which may be hours away.
        due = pending.scheduled_time.ToNanoseconds() <= time.time_ns()
        return waits and due and route is not None and self._horizon.gone(route)

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


def _age_s(sign: WorkerHeartbeat) -> float:
    """
    Say how old the worker was when it gave the sign, by its own clock alone.
    """
    lived = sign.heartbeat_time.ToNanoseconds() - sign.start_time.ToNanoseconds()
    return lived / 1e9
