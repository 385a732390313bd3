"""
The activities that read and write records for workflows: of missions, of batches, and
of how children have ended.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.batches import BatchReport, PendingItems, PoisonItem
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError, StaleAttemptError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.missions import Mission, Opening, filled_in
from outlast.contracts.reports import Report, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.text import SUMMARY_CHARS, one_line, sha256_hex
from outlast.execution.run_order import in_run_order, order_of
from outlast.ledger.attempt_order import dispatch_of
from outlast.ledger.batches import CANCELLED, OPEN, BatchRecords
from outlast.ledger.items import ItemRecords
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.telemetry.process import DEAD_ITEMS, DEAD_TASKS, PARKED, telemetry

T = TypeVar("T")
FillIn = Callable[[Mission], Awaitable[Opening]]

COUNTED_ENDS = {TaskStatus.PARKED: PARKED, TaskStatus.DEAD: DEAD_TASKS}


class RecordActivities:
    """
    The activities on the records in *store*.

    :param fill: finds what a mission lacks that Temporal alone has started.
    """

    def __init__(self, store: Store, fill: FillIn) -> None:
        self._store = store
        self._fill = fill
        self._ledger = Ledger(store)
        self._missions = MissionRecords(store)
        self._batches = BatchRecords(store)
        self._items = ItemRecords(store)

    @property
    def all(self) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
        return [
            self.record_mission_opened,
            self.record_mission_reopened,
            self.record_mission_closed,
            self.record_report,
            self.find_result,
            self.find_report,
            self.find_batch_report,
            self.pending_items,
            self.dead_letter_item,
            self.record_batch_closed,
        ]

    @activity.defn
    async def record_mission_opened(self, mission: Mission) -> Opening | None:
        """
        Open the record of a mission that lies within another one, or that Temporal
        alone has started; returns what such a one lacked.
        """
        try:
            lacked = None if mission.store else await self._fill(mission)
            if lacked is not None:
                mission = filled_in(mission, lacked)
            await self._store.run(self._missions.open, mission)
        except BadInputError as error:
            raise ApplicationError(
                str(error), type=FailureType.BAD_INPUT, non_retryable=True
            ) from None
        await self.record_mission_reopened(mission.id)
        return lacked

    @activity.defn
    async def record_mission_reopened(self, mission: str) -> None:
        await self._store.run(self._missions.reopen, mission)

    @activity.defn
    async def record_mission_closed(
        self, report: Report, parent: str, parent_run: str
    ) -> None:
        """
        Close a mission's record, and signal the mission *parent*, "" for none.
        """
        run = activity.info().workflow_run_id or ""
        closed = await self._store.run(self._missions.close, report, run)
        if not closed and await _is_current(run):
            # Closed by an earlier run: this one began by a reset.
            await self._store.run(self._missions.close, report, run, again=True)
        if parent:
            await signal_parent(parent, parent_run)
        for task in report.tasks:
            if task.status in COUNTED_ENDS:
                telemetry.counters.count(COUNTED_ENDS[task.status])

    @activity.defn
    async def record_report(self, assignment: AttemptInput, report: Report) -> None:
        order = order_of(assignment.dispatch)
        result = {
            "mission": report.mission,
            "status": report.status,
            "tasks": {each.id: each.status for each in report.tasks},
        }
        text = json.dumps(result)
        answer = ResultRef(
            digest=sha256_hex(text), attempt=1, summary=one_line(text, SUMMARY_CHARS)
        )
        try:
            claim = await in_run_order(
                self._ledger,
                order,
                assignment.mission,
                lambda: self._ledger.claim(assignment, MISSION_ROLE, order),
            )
            await self._store.run(self._ledger.record, claim, answer, json.loads(text))
        except StaleAttemptError as stale:
            details = FailureDetails(
                detected_by=Detector.SUPERSEDED, dispatch=dispatch_of(stale.highest)
            )
            raise ApplicationError(
                str(stale), details.dump(), type=FailureType.STALE, non_retryable=True
            ) from None

    @activity.defn
    async def find_result(
        self, mission: str, task: str, round_: int
    ) -> ResultRef | None:
        return await self._store.run(self._ledger.answer, mission, task, round_)

    @activity.defn
    async def find_report(self, mission: str, digest: str) -> Report | None:
        """
        Read how a child mission has ended; None while it is under way.
        """

        async def recorded() -> Report | None:
            entry = await self._store.run(self._missions.find, mission)
            if entry is not None and entry.digest != digest:
                raise _unknown(f"mission {mission!r} is another one of that id")
            return entry.report if entry else None

        return await _end_of(mission, recorded)

    @activity.defn
    async def find_batch_report(self, batch: str, _: str) -> BatchReport | None:
        """
        Read how a batch has ended; None while it is under way.
        """

        async def recorded() -> BatchReport | None:
            entry = await self._store.run(self._batches.find, batch)
            if entry is None or entry.state == OPEN:
                return None
            report = await self._store.run(self._batches.count, batch)
            ended = {"cancelled": entry.state == CANCELLED}
            return report.model_copy(update=ended)

        return await _end_of(batch, recorded)

    @activity.defn
    async def pending_items(self, batch: str, after: int) -> PendingItems:
        return await self._store.run(self._items.pending, batch, after)

    @activity.defn
    async def dead_letter_item(self, poison: PoisonItem) -> bool:
        is_dead = await self._store.run(self._items.dead_letter, poison)
        if is_dead:
            telemetry.counters.count(DEAD_ITEMS)
        return is_dead

    @activity.defn
    async def record_batch_closed(
        self, batch: str, cancelled: bool, parent: str, run: str
    ) -> BatchReport | None:
        report = await self._store.run(self._batches.close, batch, cancelled)
        if report is not None and parent:
            await signal_parent(parent, run)
        return report


async def signal_parent(parent: str, run: str) -> None:
    """
    Signal the end of this activity's workflow, which is recorded by now, to the mission
    *parent*, unless it is in the *run* that has started us: the server tells that one.
    """
    mission = _workflow(parent)
    try:
        if (await mission.describe()).run_id != run:
            await mission.signal("child_ended", activity.info().workflow_id)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise  # tried again: what was recorded is recorded


async def _is_current(run: str) -> bool:
    return (await _workflow(activity.info().workflow_id or "").describe()).run_id == run


async def _end_of(child: str, recorded: Callable[[], Awaitable[T]]) -> T:
    """
    Read how *child* has ended; None while it is under way.

    :raises ApplicationError: when it is not, and nothing is recorded.
    """
    found = await recorded()
    if found is None and not await _is_under_way(child):
        found = await recorded()
        if found is None:
            raise _unknown(f"{child} was terminated, or deleted, before it had ended")
    return found


async def _is_under_way(workflow: str) -> bool:
    try:
        return (await _workflow(workflow).describe()).close_time is None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise


def _workflow(name: str) -> WorkflowHandle[Any, Any]:
    return activity.client().get_workflow_handle(name)


def _unknown(why: str) -> ApplicationError:
    return ApplicationError(why, type="UnknownEnd", non_retryable=True)
