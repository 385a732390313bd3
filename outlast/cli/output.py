"""
What the starter prints: for people, and one JSON object for programs.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from outlast.cli.follow import MissionSnapshot, explain_no_answer, snapshot, task_line
from outlast.cli.parked import waiting_tasks, what_to_do
from outlast.cli.run_mission import (
    FinishedMission,
    connect_default,
    reconciled,
    why_refused,
)
from outlast.cli.stores import open_store, require_mission
from outlast.cli.stuck_workflows import workflow_task_failure
from outlast.contracts.errors import BadInputError
from outlast.contracts.reports import MissionProgress, Outcome, Report, TaskStatus
from outlast.fleet.store_watch import store_trouble_text
from outlast.ledger.batches import INTERRUPTED, BatchRecords
from outlast.ledger.missions import ACCEPTED, MissionRecord, MissionRecords
from outlast.ledger.retention import forget_batch, forget_mission, prune
from outlast.process.called import tell
from outlast.process.json_output import print_json_rows
from outlast.settings import settings
from outlast.temporal.reconcile import ENDED_OUTSIDE, interrupted


def print_mission_json(conducted: FinishedMission) -> None:
    """
    Print a mission's end as one JSON object.
    """
    report, results = conducted.report, conducted.results
    value = {
        "mission": report.mission,
        "status": report.status,
        "degraded": report.degraded,
        "seconds": conducted.seconds,
        "ui": conducted.ui,
    }
    print_json_rows(
        value, "tasks", (_task_json(each, results) for each in report.tasks)
    )


def print_mission(conducted: FinishedMission) -> None:
    """
    Print a mission's end for a person.
    """
    for each in conducted.report.tasks:
        print(outcome_line(each))
    print_reasons(conducted.report)
    print_end(conducted)


async def show_status(mission: str, as_json: bool) -> None:
    """
    Print how far a mission is, from the workflow, or from the ledger once it ended.
    """
    await reconciled(mission)
    try:
        entry = require_mission(mission)
    except BadInputError as error:
        raise BadInputError(await why_refused(mission) or str(error)) from None
    if entry.report is not None:
        _print_ended(entry, as_json)
        return
    if entry.interruption:
        _print_interrupted(entry, as_json)
        return
    client = await connect_default()
    handle = client.get_workflow_handle(mission)
    view, stuck = await asyncio.gather(
        snapshot(handle), workflow_task_failure(client, mission)
    )
    value: dict[str, Any] = {"mission": mission, "status": entry.state}
    value["stuck"] = stuck
    value["waits_for"] = waits = store_trouble_text(settings().home.resolve())
    value["progress"] = view.progress.model_dump(mode="json") if view else None
    value["unstarted"] = (
        {task: each.text for task, each in view.unstarted.items()} if view else {}
    )
    if as_json:
        print(json.dumps(value))
        return
    print(f"{mission}  {state_word(entry)}  {entry.goal}")
    if stuck:
        print(f"WEDGED: {stuck}")
    if waits:
        print(f"WAITS: {waits}")
    if view is None:
        tell(await explain_no_answer(handle))
        return
    _print_progress(view)


def _print_parked(progress: MissionProgress) -> None:
    """
    Print what a person can do about each task that waits.
    """
    for parked in waiting_tasks(progress):
        for told in parked.effects:
            print(f"{parked.task:<16} {told}")
        print(f"{parked.task} waits: {what_to_do(parked)}")


def outcome_line(outcome: Outcome) -> str:
    """
    Tell how a task ended: a person's word on it, then its result in short.
    """
    told = "; ".join(each for each in (outcome.approval, outcome.summary) if each)
    return f"{outcome.id:<16} {outcome.status:<9} {told}".rstrip()


def state_word(entry: MissionRecord) -> str:
    """
    Say for a person how a mission is: accepted means that it runs.
    """
    return "running" if entry.state == ACCEPTED else entry.state


def show_list(as_json: bool) -> None:
    """
    Print the ledger's missions, the newest first.
    """
    asyncio.run(reconciled())
    entries = MissionRecords(open_store()).records()
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


def show_pruned(older_than_days: float, as_json: bool) -> None:
    """
    Forget old missions and say which.
    """
    store, older_than_s = open_store(), older_than_days * 86_400
    pruned = prune(store, older_than_s, store.clock())
    print(json.dumps({"pruned": pruned}) if as_json else f"{len(pruned)} forgotten")


def show_forgotten(mission: str) -> None:
    """
    Erase one mission and say so.
    """
    batch = BatchRecords(open_store()).find(mission)
    if batch is not None:
        if batch.state == INTERRUPTED:
            raise BadInputError(interrupted(mission, ENDED_OUTSIDE))
        if batch.finished_at is None:
            raise BadInputError(f"{mission} is under way; cancel it first")
        forget_batch(open_store(), mission)
        print(f"{mission}: forgotten")
        return
    entry = require_mission(mission)
    if entry.interruption:
        raise BadInputError(interrupted(mission, entry.interruption))
    if entry.report is None:
        raise BadInputError(f"{mission} is under way; cancel it first")
    forget_mission(open_store(), mission)
    print(f"{mission}: forgotten; its report file, if any, is yours to delete")


def print_ready(line: dict[str, Any]) -> None:
    """
    Say for a person what `dev` has started.
    """
    print(f"Temporal   {line['address']}")
    print(f"Web UI     {line['ui']}")
    if "peer" in line:
        print(f"peer       {line['peer']} at {line['mesh']}")
    print(f"health     {line['health']}")
    for worker in line["workers"]:
        print(f"worker     {worker['kind']} {worker['pid']}")
    print("Ctrl-C stops them; missions are kept.", flush=True)


def _task_json(outcome: Outcome, results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "role": outcome.role,
        "route": outcome.route,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "reasons": outcome.reasons,
        "result": results.get(outcome.id),
    }


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
    _print_parked(view.progress)
    for task in view.progress.waiting:
        print(f"{task:<16} waiting")
    if view.progress.left_out:
        print(f"and {view.progress.left_out} more tasks")


def print_reasons(report: Report) -> None:
    """
    Print what a mission that has ended lacks.
    """
    for reason in report.degraded:
        tell(f"  lacks: {reason}")


def print_end(conducted: FinishedMission) -> None:
    """
    Print how a mission ended, and where there is more to see.
    """
    print(f"status   {conducted.report.status} in {conducted.seconds:.1f} s")
    tell(f"story    outlast explain {conducted.mission.id}")
    if conducted.ui and conducted.ui_stays:
        print(f"Web UI   {conducted.ui}")
    elif conducted.ui:
        tell("Web UI   stops with this command; look again with: outlast dev")
