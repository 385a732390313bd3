"""
Opens and closes the books of missions: the writes that the supervisor workflow asks
for.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError, StaleAttemptError
from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.contracts.models import Answer, Assignment, Mission, Opening, filled_in
from outlast.contracts.reports import Report, Status
from outlast.contracts.text import SUMMARY_CHARS, digest, shorten
from outlast.execution.child_ends import tell_parent
from outlast.execution.current_run import order_of
from outlast.execution.runs import in_order
from outlast.ledger.attempt_order import dispatch_of
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import Books
from outlast.store.database import Store
from outlast.telemetry.counters import DEAD_TASKS, PARKED, count

COUNTED = {Status.PARKED: PARKED, Status.DEAD: DEAD_TASKS}


Fill = Callable[[Mission], Awaitable[Opening]]


def books_of(store: Store, fill: Fill) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
    """
    Make the activities that keep the missions' books in *store*.

    :param fill: finds what a mission lacks that Temporal alone has started.
    """
    made = (reopen_mission, close_mission, record_report, find_answer)
    return [open_mission(store, fill), *(make(store) for make in made)]


def open_mission(
    store: Store, fill: Fill
) -> Callable[[Mission], Coroutine[Any, Any, Opening | None]]:
    """
    Make the activity that opens the record of a mission that lies within another one,
    or that Temporal alone has started.
    """

    @activity.defn(name="open_mission")
    async def open_(mission: Mission) -> Opening | None:
        books = Books(store)
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
) -> Callable[[Assignment, Report], Coroutine[Any, Any, None]]:
    """
    Make the activity that records a mission's report as the result of a task.
    """

    @activity.defn(name="record_report")
    async def record(assignment: Assignment, report: Report) -> None:
        ledger, order = Ledger(store), order_of(assignment.dispatch)
        result = {
            "mission": report.mission,
            "status": report.status,
            "tasks": {each.id: each.status for each in report.tasks},
        }
        text = json.dumps(result)
        answer = Answer(
            digest=digest(text), attempt=1, summary=shorten(text, SUMMARY_CHARS)
        )
        try:
            claim = await in_order(
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


def find_answer(
    store: Store,
) -> Callable[[str, str, int], Coroutine[Any, Any, Answer | None]]:
    """
    Make the activity that looks up what stands as the answer of a task's round.
    """

    @activity.defn(name="find_answer")
    async def find(mission: str, task: str, round_: int) -> Answer | None:
        ledger = Ledger(store)
        return await store.run(ledger.answer, mission, task, round_)

    return find


def close_mission(
    store: Store,
) -> Callable[[Report, str, str], Coroutine[Any, Any, None]]:
    """
    Make the activity that closes missions in *store*.
    """

    @activity.defn(name="close_mission")
    async def close(report: Report, parent: str, parent_run: str) -> None:
        run, books = activity.info().workflow_run_id or "", Books(store)
        if not await store.run(books.close, report, run) and await _is_current(run):
            # Closed by an earlier run: this one began by a reset.
            await store.run(books.close, report, run, again=True)
        if parent:
            await tell_parent(parent, parent_run)
        for task in report.tasks:
            if task.status in COUNTED:
                count(COUNTED[task.status])

    return close


async def _is_current(run: str) -> bool:
    """
    Ask the server whether *run* is the one that our workflow has now.
    """
    handle = activity.client().get_workflow_handle(activity.info().workflow_id or "")
    return (await handle.describe()).run_id == run


def reopen_mission(store: Store) -> Callable[[str], Coroutine[Any, Any, None]]:
    """
    Make the activity that notes in *store* that a mission goes on.
    """

    @activity.defn(name="reopen_mission")
    async def reopen(mission: str) -> None:
        await store.run(Books(store).reopen, mission)

    return reopen
