"""
Opens and closes the books of missions: the writes that the supervisor workflow asks
for.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError, StaleAttemptError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.missions import Mission, Opening, filled_in
from outlast.contracts.reports import Report, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.text import SUMMARY_CHARS, one_line, sha256_hex
from outlast.execution.child_ends import signal_parent
from outlast.execution.current_run import order_of
from outlast.execution.runs import in_run_order
from outlast.ledger.attempt_order import dispatch_of
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.telemetry.counters import DEAD_TASKS, PARKED, count

COUNTED_ENDS = {TaskStatus.PARKED: PARKED, TaskStatus.DEAD: DEAD_TASKS}


FillIn = Callable[[Mission], Awaitable[Opening]]


def bookkeeping_activities(
    store: Store, fill: FillIn
) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
    """
    Make the activities that keep the missions' books in *store*.

    :param fill: finds what a mission lacks that Temporal alone has started.
    """
    made = (record_mission_reopened, record_mission_closed, record_report, find_result)
    return [record_mission_opened(store, fill), *(make(store) for make in made)]


def record_mission_opened(
    store: Store, fill: FillIn
) -> Callable[[Mission], Coroutine[Any, Any, Opening | None]]:
    """
    Make the activity that opens the record of a mission that lies within another one,
    or that Temporal alone has started.
    """

    @activity.defn(name="record_mission_opened")
    async def open_(mission: Mission) -> Opening | None:
        books = MissionRecords(store)
        try:
            lacked = None if mission.store else await fill(mission)
            if lacked is not None:
                mission = filled_in(mission, lacked)
            await store.run(books.open, mission)
        except BadInputError as error:
            raise ApplicationError(
                str(error), type=FailureType.BAD_INPUT, non_retryable=True
            ) from None
        await store.run(books.reopen, mission.id)
        return lacked

    return open_


def record_report(
    store: Store,
) -> Callable[[AttemptInput, Report], Coroutine[Any, Any, None]]:
    """
    Make the activity that records a mission's report as the result of a task.
    """

    @activity.defn(name="record_report")
    async def record(assignment: AttemptInput, report: Report) -> None:
        ledger, order = Ledger(store), order_of(assignment.dispatch)
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
                ledger,
                order,
                assignment.mission,
                lambda: ledger.claim(assignment, MISSION_ROLE, order),
            )
            await store.run(ledger.record, claim, answer, json.loads(text))
        except StaleAttemptError as stale:
            details = FailureDetails(
                detected_by=Detector.SUPERSEDED, dispatch=dispatch_of(stale.highest)
            )
            raise ApplicationError(
                str(stale), details.dump(), type=FailureType.STALE, non_retryable=True
            ) from None

    return record


def find_result(
    store: Store,
) -> Callable[[str, str, int], Coroutine[Any, Any, ResultRef | None]]:
    """
    Make the activity that looks up what stands as the answer of a task's round.
    """

    @activity.defn(name="find_result")
    async def find(mission: str, task: str, round_: int) -> ResultRef | None:
        ledger = Ledger(store)
        return await store.run(ledger.answer, mission, task, round_)

    return find


def record_mission_closed(
    store: Store,
) -> Callable[[Report, str, str], Coroutine[Any, Any, None]]:
    """
    Make the activity that closes missions in *store*.
    """

    @activity.defn(name="record_mission_closed")
    async def close(report: Report, parent: str, parent_run: str) -> None:
        run, books = activity.info().workflow_run_id or "", MissionRecords(store)
        if not await store.run(books.close, report, run) and await _is_current(run):
            # Closed by an earlier run: this one began by a reset.
            await store.run(books.close, report, run, again=True)
        if parent:
            await signal_parent(parent, parent_run)
        for task in report.tasks:
            if task.status in COUNTED_ENDS:
                count(COUNTED_ENDS[task.status])

    return close


async def _is_current(run: str) -> bool:
    """
    Ask the server whether *run* is the one that our workflow has now.
    """
    handle = activity.client().get_workflow_handle(activity.info().workflow_id or "")
    return (await handle.describe()).run_id == run


def record_mission_reopened(store: Store) -> Callable[[str], Coroutine[Any, Any, None]]:
    """
    Make the activity that notes in *store* that a mission goes on.
    """

    @activity.defn(name="record_mission_reopened")
    async def reopen(mission: str) -> None:
        await store.run(MissionRecords(store).reopen, mission)

    return reopen
