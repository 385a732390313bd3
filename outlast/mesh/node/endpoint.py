"""
The runs of a peer on its own Temporal: started, suspended, resumed, ended.

Each is an ordinary mission, which survives what missions survive. It runs only while it
has a permit, and a permit is never renewed for a run that the core has let go.
"""

import asyncio
import logging
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from outlast.contracts.errors import OutlastError, TooManyError, UnavailableError
from outlast.contracts.ids import MeshRunId, parse
from outlast.contracts.mesh_timing import MAX_MESH_RUNS
from outlast.contracts.reports import MissionStatus, Report
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.ledger.run_permits import RunPermits
from outlast.mesh.core.effects import StartRun
from outlast.mesh.node.mission_runs import CAPACITY_CHECK_S, LazyClient, MissionRuns
from outlast.store.database import Store
from outlast.temporal.workflow_calls import START_RETRY_S

logger = logging.getLogger("outlast.mesh")

Ended = Callable[[MeshRunId, Report], None]


class TemporalEndpoint:
    """
    The runs in hand.

    :param line: to the Temporal that they run on.
    """

    def __init__(self, store: Store, permits: RunPermits, line: LazyClient) -> None:
        self._runs = MissionRuns(store, line)
        self._permits = permits
        self._ended: Ended = lambda *_: None
        self._slots = asyncio.Semaphore(MAX_MESH_RUNS)
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, MeshRunId] = {}
        self._suspended: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> dict[str, MeshRunId]:
        """
        The runs under way, by the missions as which they run.
        """
        return dict(self._running)

    @property
    def load(self) -> int:
        """
        The number of runs in hand, those that wait for a slot included.
        """
        return len(self._watchers)

    def on_ended(self, ended: Ended) -> None:
        """
        Have *ended* called with the report of each run that was not cancelled here.
        """
        self._ended = ended

    def run(self, wanted: StartRun) -> None:
        """
        Start the run, join it, or resume it.
        """
        mission = str(wanted.run)
        self._suspended.discard(mission)
        if mission not in self._watchers:
            task = asyncio.ensure_future(self._watch_run(mission, wanted))
            self._watchers[mission] = task
            task.add_done_callback(lambda done: self._release(mission, done))

    def suspend(self, run: MeshRunId) -> None:
        self._suspended.add(str(run))
        self._permits.revoke(str(run))

    def cancel(self, run: MeshRunId) -> None:
        """
        End the run: it is another peer's, or done.
        """
        self.suspend(run)
        if str(run) in self._watchers:
            self._watchers[str(run)].cancel()
        ending = asyncio.ensure_future(self._cancel_until_ended(run))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def cancel_others(self, kept: set[MeshRunId]) -> None:
        """
        End what earlier lives of this peer began and its log does not name.
        """
        for mission in self._permits.all:
            run = parse(MeshRunId, mission)
            if run and run not in kept:
                self.cancel(run)

    def forget_run(self, run: MeshRunId) -> None:
        """
        Leave the run to a peer that shares this endpoint.
        """
        if str(run) in self._watchers:
            self._watchers[str(run)].cancel()
        self._forget(run)

    def renew_permits(self) -> None:
        for mission in self._running.keys() - self._suspended:
            self._permits.grant(mission)

    def suspend_all(self) -> None:
        for run in self._running.values():
            self.suspend(run)

    def _release(self, mission: str, done: "asyncio.Task[None]") -> None:
        if self._watchers.get(mission) is done:
            del self._watchers[mission]
            self._running.pop(mission, None)
        if not done.cancelled() and done.exception() is not None:
            logger.error("mesh.run_lost %s", mission, exc_info=done.exception())

    async def _watch_run(self, mission: str, wanted: StartRun) -> None:
        async with self._slots:
            self._running[mission] = wanted.run
            report = await self._run_to_completion(mission, wanted)
        self._running.pop(mission, None)
        self._permits.remove(mission)
        self._ended(wanted.run, report)

    async def _run_to_completion(self, mission: str, wanted: StartRun) -> Report:
        """
        See it to its end, however long its server or store is away.
        """
        added = False
        while True:
            try:
                if not added:  # a second time would suspend what runs meanwhile
                    self._permits.add(mission)
                    added = True
                # On an endpoint that peers share, the runs of a dead peer live on.
                for epoch in range(1, wanted.run.epoch):
                    await self._end(MeshRunId(wanted.run.task, epoch))
                started = await self._runs.start(wanted)
                return await started.result()
            except (UnavailableError, DBAPIError) as error:
                # The next start joins what has begun.
                logger.warning("mesh.endpoint_unavailable: %s", error)
                await asyncio.sleep(START_RETRY_S)
            except TooManyError:
                await asyncio.sleep(CAPACITY_CHECK_S)  # others were faster
            except (OutlastError, ValidationError) as error:
                # What cannot start here has failed: it must not stay undecided.
                return _failed(mission, error)
            except Exception:
                # While its owner lives no other peer adopts it: it must be kept.
                logger.exception("mesh.run_failed %s", mission)
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _cancel_until_ended(self, run: MeshRunId) -> None:
        """
        End it however long the store is away, and whatever else fails.
        """
        while True:
            try:
                return await self._end(run)
            except Exception as error:
                logger.warning("mesh.endpoint_unavailable: %r", error)
                await asyncio.sleep(CAPACITY_CHECK_S)

    async def _end(self, run: MeshRunId) -> None:
        await self._runs.cancel_open(str(run))
        self._forget(run)

    def _forget(self, run: MeshRunId) -> None:
        self._suspended.discard(str(run))
        self._permits.remove(str(run))


def _failed(mission: str, error: Exception) -> Report:
    cause = one_line(str(error), CAUSE_CHARS)
    return Report(
        mission=mission, status=MissionStatus.FAILED, tasks=[], degraded=[cause]
    )
