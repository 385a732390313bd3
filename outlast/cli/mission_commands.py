"""
The commands for missions and batches. Each imports what it calls when it is called, so
that every command starts fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.entrypoint import in_session
from outlast.cli.options import (
    AnyMission,
    BatchName,
    Embedded,
    Json,
    MissionId,
    Name,
    Plain,
    Reason,
    Request,
    Strict,
    TaskId,
    Traces,
    WorkId,
)

app = typer.Typer()


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="the mission, in YAML")],
    embedded: Embedded = False,
    as_json: Json = False,
    strict: Strict = False,
    id_: Name = None,
    plain: Plain = False,
) -> None:
    """
    Run the mission in FILE and follow it to its report.
    """
    from outlast.cli.mission_file import mission_file
    from outlast.cli.output import print_mission, print_mission_json
    from outlast.cli.run_mission import RunOptions, run_and_report

    mission = mission_file(file, id_)
    options = RunOptions(embedded, as_json, plain, strict)
    run_and_report(mission, options, print_mission_json, print_mission)


@app.command()
def batch(
    items: Annotated[
        str, typer.Argument(help="a file of JSON lines, a folder, or - for a pipe")
    ],
    agent: Annotated[str, typer.Option(help="the role whose agent gets each item")],
    embedded: Embedded = False,
    as_json: Json = False,
    strict: Strict = False,
    id_: BatchName = None,
    plain: Plain = False,
    tenant: Annotated[str, typer.Option(help="whose effects these are")] = "default",
) -> None:
    """
    Have one agent work through many items, each once, and follow it to its end.

    Exits 1 when no item was done, 0 when some were, 3 with --strict when not all.
    """
    from outlast.cli.run_batch import run_and_report_batch
    from outlast.cli.run_mission import RunOptions

    options = RunOptions(embedded, as_json, plain, strict)
    run_and_report_batch(items, agent, id_, tenant, options)


@app.command()
def status(mission: MissionId, as_json: Json = False) -> None:
    """
    Say how far MISSION, or a batch, is.
    """
    from outlast.cli.status import show_status

    in_session(show_status, mission, as_json)


@app.command("list")
def list_missions(as_json: Json = False) -> None:
    """
    List the missions in the store, the newest first.
    """
    from outlast.cli.status import show_list

    in_session(show_list, as_json)


@app.command()
def results(name: WorkId) -> None:
    """
    Print the results there are so far of a mission or batch, a JSON line for each task
    or item.
    """
    from outlast.cli.batch_results import show_results

    in_session(show_results, name)


@app.command()
def explain(mission: MissionId, traces: Traces = False, as_json: Json = False) -> None:
    """
    Tell the story of MISSION, one line an attempt.
    """
    from outlast.cli.explain import show_attempts

    in_session(show_attempts, mission, as_json, traces)


@app.command()
def parked(mission: AnyMission = None, as_json: Json = False) -> None:
    """
    List the tasks that wait, for a worker or a person, and what to do about it.
    """
    from outlast.cli.parked import show_parked

    in_session(show_parked, mission, as_json)


@app.command()
def approve(
    mission: MissionId,
    task: TaskId,
    reason: Reason = "",
    request: Request = "",
    skip: Annotated[
        bool, typer.Option(help="leave changed effects out: the earlier ones stay")
    ] = False,
) -> None:
    """
    Let TASK of MISSION start, or the effects happen that it has asked about.
    """
    from outlast.contracts.updates import DecisionInput

    decision = DecisionInput(task=task, reason=reason, request=request, skip=skip)
    _update(mission, "approve", decision)


@app.command()
def reject(
    mission: MissionId, task: TaskId, reason: Reason = "", request: Request = ""
) -> None:
    """
    Skip TASK of MISSION, which has asked for approval.
    """
    from outlast.contracts.updates import DecisionInput

    decision = DecisionInput(task=task, reason=reason, request=request)
    _update(mission, "reject", decision)


@app.command()
def pause(mission: MissionId) -> None:
    """
    Start no further task of MISSION; what runs goes on.
    """
    _update(mission, "pause")


@app.command()
def unpause(mission: MissionId) -> None:
    """
    Go on with a paused MISSION.
    """
    _update(mission, "unpause")


@app.command()
def cancel(
    mission: MissionId,
    reason: Annotated[str, typer.Option(help="for the report")] = "cancelled",
) -> None:
    """
    End MISSION now; what is done is kept.
    """
    _update(mission, "cancel", reason)


def _update(mission: str, name: str, *args: object) -> None:
    from outlast.cli.session import Session

    in_session(Session.update, mission, name, *args)
