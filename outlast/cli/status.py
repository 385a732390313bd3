"""
How far missions are: one of them, or a list of all.
"""

import asyncio
import contextlib
import json
import time

from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from outlast.cli.batch_results import show_batch
from outlast.cli.output import outcome_line, print_reasons
from outlast.cli.parked import waiting_tasks, what_to_do
from outlast.cli.session import Session
from outlast.cli.snapshot import (
    MissionSnapshot,
    explain_no_answer,
    snapshot,
    task_line,
)
from outlast.cli.stuck_workflows import workflow_task_failure
from outlast.contracts.errors import BadInputError, OutlastError
from outlast.contracts.reports import TaskStatus
from outlast.fleet.store_watch import store_trouble_text
from outlast.ledger.missions import MissionRecord
from outlast.process.called import tell
from outlast.settings import settings
from outlast.temporal.client import state_word
from outlast.temporal.updates import RECONCILE_LIMIT_S
from outlast.temporal.workflow_calls import refusal_in
from outlast.temporal.workflow_state import interrupted


async def show_status(session: Session, mission: str, as_json: bool) -> None:
    """
    Print how far a mission or batch is: from the workflow, or from the store once it
    ended.
    """
    if session.is_batch(mission):
        await show_batch(session, mission, as_json)
        return
    await session.reconcile(mission)
    try:
        entry = session.require_mission(mission)
    except BadInputError as error:
        raise BadInputError(
            await _why_refused(session, mission) or str(error)
        ) from None
    if entry.report is not None:
        _print_ended(entry, as_json)
        return
    if entry.interruption:
        _print_interrupted(entry, as_json)
        return
    await _show_running(session, entry, as_json)


async def _show_running(session: Session, entry: MissionRecord, as_json: bool) -> None:
    client = await session.client()
    handle = client.get_workflow_handle(entry.id)
    view, stuck = await asyncio.gather(
        snapshot(handle), workflow_task_failure(client, entry.id)
    )
    waits = store_trouble_text(settings().home.resolve())
    if as_json:
        unstarted = view.unstarted if view else {}
        value = {
            "mission": entry.id,
            "status": entry.state,
            "stuck": stuck,
            "waits_for": waits,
            "progress": view.progress.model_dump(mode="json") if view else None,
            "unstarted": {task: each.text for task, each in unstarted.items()},
        }
        print(json.dumps(value))
        return
    print(f"{entry.id}  {state_word(entry)}  {entry.goal}")
    if stuck:
        print(f"WEDGED: {stuck}")
    if waits:
        print(f"WAITS: {waits}")
    if view is None:
        tell(await explain_no_answer(handle))
        return
    _print_progress(view)


async def show_list(session: Session, as_json: bool) -> None:
    await session.reconcile()
    entries = session.missions.records()
    if as_json:
        rows = [
            {
                "mission": each.id,
                "tenant": each.tenant,
                "status": each.state,
                "goal": each.goal,
                "accepted_at": each.accepted_at,
                "finished_at": each.finished_at,
                "interruption": each.interruption,
            }
            for each in entries
        ]
        print(json.dumps(rows))
        return
    for each in entries:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.accepted_at))
        print(f"{at}  {state_word(each):<11} {each.id}  {each.goal}")
        if each.interruption:
            tell(f"    {interrupted(each.id, each.interruption)}")
    if not entries:
        tell("no missions yet: start one with `outlast run FILE --embedded`")


async def _why_refused(session: Session, mission: str) -> str:
    """
    Say why a mission that Temporal alone had started has no record, where its workflow
    has refused its input; "" where it has not, or no server answers.
    """
    with contextlib.suppress(OutlastError, RPCError, TimeoutError):
        async with asyncio.timeout(RECONCILE_LIMIT_S):
            handle = (await session.client()).get_workflow_handle(mission)
            if (await handle.describe()).status is WorkflowExecutionStatus.FAILED:
                try:
                    await handle.result()
                except WorkflowFailureError as error:
                    if why := refusal_in(error):
                        return f"{mission} was refused: {why}"
    return ""


def _print_ended(entry: MissionRecord, as_json: bool) -> None:
    assert entry.report is not None
    if as_json:
        report = entry.report.model_dump(mode="json")
        print(
            json.dumps({"mission": entry.id, "status": entry.state, "report": report})
        )
        return
    print(f"{entry.id}  {entry.state}  {entry.goal}")
    for each in entry.report.tasks:
        print(outcome_line(each))
    print_reasons(entry.report)


def _print_interrupted(entry: MissionRecord, as_json: bool) -> None:
    if as_json:
        told = {"mission": entry.id, "status": entry.state, "stuck": None}
        print(json.dumps({**told, "interruption": entry.interruption}))
        return
    print(f"{entry.id}  {entry.state}  {entry.goal}")
    tell(interrupted(entry.id, entry.interruption))


def _print_progress(view: MissionSnapshot) -> None:
    if view.progress.paused:
        print("paused")
    for each in view.progress.settled:
        print(outcome_line(each))
        if each.status is not TaskStatus.DONE:
            for reason in each.reasons:
                tell(f"  lacks: {each.id}: {reason}")
    for running in view.progress.running:
        state, said = task_line(running, view)
        tell(f"{running.id:<16} {state:<9} {said}".rstrip())
    for parked in waiting_tasks(view.progress):
        for told in parked.effects:
            print(f"{parked.task:<16} {told}")
        print(f"{parked.task} waits: {what_to_do(parked)}")
    for task in view.progress.waiting:
        print(f"{task:<16} waiting")
    if view.progress.left_out:
        print(f"and {view.progress.left_out} more tasks")
