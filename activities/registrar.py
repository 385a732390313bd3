"""
Opens and closes the books of missions: the writes that the supervisor workflow asks
for.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.child_ends import tell_parent
from outlast.attempt.attempt_order import dispatch_of
from outlast.attempt.counts import DEAD_TASKS, PARKED, count
from outlast.attempt.current_run import order_of
from outlast.attempt.ledger import Ledger
from outlast.attempt.runs import in_order
from outlast.contracts.errors import STALE, BadInputError, StaleAttemptError
from outlast.contracts.models import Answer, Assignment, Mission
from outlast.contracts.reports import Report, Status
from outlast.contracts.texts import SUMMARY_CHARS, digest, shorten
from outlast.contracts.trees import MISSION_ROLE
from outlast.store.books import Books
from outlast.store.database import Store

COUNTED = {Status.PARKED: PARKED, Status.DEAD: DEAD_TASKS}


def books_of(store: Store) -> list[Callable[..., Coroutine[Any, Any, Any]]]:
    """
    Make the activities that keep the missions' books in *store*.
    """
    made = (open_mission, reopen_mission, close_mission, record_report, find_answer)
    return [make(store) for make in made]


def open_mission(store: Store) -> Callable[[Mission], Coroutine[Any, Any, None]]:
    """
    Make the activity that opens the books of a mission within another one.
    """

    @activity.defn(name="open_mission")
    async def open_(mission: Mission) -> None:
        books = Books(store)
        try:
            await store.run(books.open, mission)
        except BadInputError as error:
            raise ApplicationError(str(error), non_retryable=True) from None
        await store.run(books.accept, mission.id)

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
            last = dispatch_of(stale.highest)
            raise ApplicationError(
                str(stale), None, 0, last, type=STALE, non_retryable=True
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
    async def close(report: Report, parent: str, run: str) -> None:
        await store.run(Books(store).close, report)
        if parent:
            await tell_parent(parent, run)
        for task in report.tasks:
            if task.status in COUNTED:
                count(COUNTED[task.status])

    return close


def reopen_mission(store: Store) -> Callable[[str], Coroutine[Any, Any, None]]:
    """
    Make the activity that notes in *store* that a mission goes on.
    """

    @activity.defn(name="reopen_mission")
    async def reopen(mission: str) -> None:
        await store.run(Books(store).reopen, mission)

    return reopen
