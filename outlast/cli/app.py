"""
The command line of outlast: one function a verb, each parses, calls and prints.
"""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from outlast.cli import mesh
from outlast.cli.entrypoint import run_command
from outlast.cli.options import (
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
from outlast.contracts.errors import BadInputError
from outlast.process.called import tell
from outlast.process.installed import commands

RUN_FIRST = "outlast run mission.yaml --embedded"

OPTIONS: dict[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "help": "Run missions of agents that finish their work when anything fails.",
}
app = typer.Typer(**OPTIONS)
app.add_typer(mesh.app, name="mesh")


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
    agent: Annotated[str, typer.Option(help="the role that plays each item")],
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
def results(name: WorkId) -> None:
    """
    Print the results there are so far of a mission or batch, a JSON line for each task
    or item.
    """
    from outlast.cli.batch_results import show_results

    show_results(name)


@app.command("dead-letters")
def dead_letters(
    name: Annotated[
        str | None, typer.Argument(help="of this mission or batch only")
    ] = None,
    traces: Traces = False,
    as_json: Json = False,
) -> None:
    """
    List the tasks and items that were given up, and why.
    """
    from outlast.cli.dead_letters import show_dead_letters

    show_dead_letters(name, as_json, traces)


@app.command()
def parked(
    mission: Annotated[str | None, typer.Argument(help="of this mission only")] = None,
    as_json: Json = False,
) -> None:
    """
    List the tasks that wait, for a worker or a person, and what to do about it.
    """
    from outlast.cli.parked import show_parked

    show_parked(mission, as_json)


@app.command()
def redrive(
    name: Annotated[str, typer.Argument(help="the id of a mission or a batch")],
    task: Annotated[str | None, typer.Option(help="only this task")] = None,
    item: Annotated[int | None, typer.Option(help="only this item")] = None,
    cause: Annotated[
        str | None, typer.Option(help="only items with these words in their cause")
    ] = None,
) -> None:
    """
    Try again what was given up, each task from its last checkpoint.
    """
    from outlast.cli.dead_letters import redrive_dead as again

    again(name, task, item, cause)


@app.command()
def approve(
    mission: MissionId,
    task: TaskId,
    reason: Reason = "",
    request: Request = "",
    skip: Annotated[
        bool, typer.Option(help="leave changed effects out: the earlier ones stand")
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
def effects(
    mission: Annotated[
        str | None, typer.Argument(help="of this mission or batch only")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    List what agents have done to the world, by whom, and what of it is unsure.
    """
    from outlast.cli.effects import show_effects

    show_effects(mission, as_json)


@app.command()
def settle(
    key: Annotated[str, typer.Argument(help="the effect's key")],
    happened: Annotated[
        str | None, typer.Option(metavar="RESULT", help="what it returned, as JSON")
    ] = None,
    did_not_happen: Annotated[
        bool, typer.Option("--did-not-happen", help="it may be done again")
    ] = False,
    mission: Annotated[
        str | None, typer.Option(help="where several have such a key")
    ] = None,
) -> None:
    """
    Say what became of an effect that was begun and may have happened.
    """
    from outlast.cli.effects import settle_effect

    settle_effect(key, mission, happened, did_not_happen)


@app.command()
def status(mission: MissionId, as_json: Json = False) -> None:
    """
    Say how far MISSION, or a batch, is.
    """
    from outlast.cli.batch_results import is_batch, show_batch
    from outlast.cli.output import show_status
    from outlast.cli.stores import open_store

    if is_batch(mission, open_store()):
        show_batch(mission, as_json)
        return
    asyncio.run(show_status(mission, as_json))


@app.command("list")
def list_missions(as_json: Json = False) -> None:
    """
    List the missions in the ledger, the newest first.
    """
    from outlast.cli.output import show_list

    show_list(as_json)


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
    reason: Annotated[str, typer.Option(help="stands in the report")] = "cancelled",
) -> None:
    """
    End MISSION now; what is done is kept.
    """
    _update(mission, "cancel", reason)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="the id of a mission or a batch")],
) -> None:
    """
    Go on with what others have terminated or deleted in Temporal.
    """
    from outlast.cli.resume import resume_interrupted

    asyncio.run(resume_interrupted(name))


@app.command()
def abandon(
    name: Annotated[str, typer.Argument(help="the id of a mission or a batch")],
) -> None:
    """
    End for good what others have terminated or deleted; what is done is kept.
    """
    from outlast.cli.resume import abandon_interrupted

    asyncio.run(abandon_interrupted(name))


@app.command()
def audit(
    mission: Annotated[str | None, typer.Argument()] = None, as_json: Json = False
) -> None:
    """
    Count what was promised and kept; exit 1 where a promise was broken.
    """
    from outlast.cli.audit import show_audit

    raise typer.Exit(asyncio.run(show_audit(mission, as_json)))


@app.command()
def explain(mission: MissionId, traces: Traces = False, as_json: Json = False) -> None:
    """
    Tell the story of MISSION, one line an attempt.
    """
    from outlast.cli.explain import show_attempts

    show_attempts(mission, as_json, traces)


@app.command()
def dev(
    port: Annotated[
        int | None, typer.Option(help="of the server; 7233 or free")
    ] = None,
    ui_port: Annotated[int | None, typer.Option(help="of the Web UI")] = None,
    processes: Annotated[int | None, typer.Option(help="agent processes")] = None,
    as_json: Json = False,
    until_unused: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """
    Run the embedded server, its Web UI and workers until Ctrl-C.
    """
    from outlast.cli.output import print_ready
    from outlast.dev.stack import Stack
    from outlast.settings import settings

    if processes is not None and not 1 <= processes <= 64:
        raise BadInputError(f"--processes {processes} is not between 1 and 64")
    stack = Stack(settings(), port, ui_port, processes, until_unused)
    stack.reloads = not until_unused  # whom others start has nobody who edits it
    announce = _print_json if as_json else print_ready
    raise typer.Exit(asyncio.run(stack.run(announce)))


@app.command()
def doctor(as_json: Json = False) -> None:
    """
    Check this machine, the store and the server; name wedged missions.
    """
    from outlast.cli.doctor import examine

    raise typer.Exit(asyncio.run(examine(as_json)))


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="new, or empty")],
) -> None:
    """
    Write a project into DIR: an agent, a mission, a test, a Dockerfile.
    """
    from outlast.cli.new import write_project

    for file in write_project(folder):
        print(file)
    tell(f"\ngo on with: cd {shlex.quote(str(folder))} && {RUN_FIRST}")


@app.command()
def crashtest(
    agent: Annotated[str, typer.Argument(help="MODULE:AGENT, as in OUTLAST_AGENTS")],
    input_: Annotated[Path, typer.Option("--input", help="its input, a JSON object")],
) -> None:
    """
    Kill AGENT at each of its checkpoints and effects; does it always end the same?
    """
    from outlast.cli.crashtest import crashtest as test

    raise typer.Exit(test(agent, input_))


@app.command()
def workers(as_json: Json = False) -> None:
    """
    List the live workers with host, load, last sign and roles.
    """
    from outlast.cli.run_mission import with_client
    from outlast.cli.workers import show_workers

    asyncio.run(with_client(lambda client: show_workers(client, as_json)))


@app.command()
def builds(as_json: Json = False) -> None:
    """
    List the builds: which one has the new missions, which fleet may stop.
    """
    from outlast.cli.builds import show_builds
    from outlast.cli.run_mission import with_client

    asyncio.run(with_client(lambda client: show_builds(client, as_json)))


@app.command()
def promote(
    build: Annotated[
        str, typer.Argument(help="as its fleet has it in OUTLAST_BUILD")
    ] = "",
    none: Annotated[
        bool, typer.Option("--none", help="to workers without a build instead")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Have new missions and batches begin on BUILD; those under way stay where they are.
    """
    from outlast.cli.builds import promote_build
    from outlast.cli.run_mission import with_client

    if none == bool(build):
        raise BadInputError("name the BUILD, or say --none")
    asyncio.run(with_client(lambda client: promote_build(client, build, as_json)))


@app.command()
def migrate(
    new_temporal: Annotated[
        bool,
        typer.Option(
            "--new-temporal", help="the Temporal of the open missions is gone for good"
        ),
    ] = False,
) -> None:
    """
    Bring the store's schema up to this release's, before its workers start.
    """
    from outlast.cli.stores import migrate_store

    migrate_store(new_temporal)


@app.command()
def prune(
    older_than_days: Annotated[float, typer.Option(min=0)] = 30.0,
    as_json: Json = False,
) -> None:
    """
    Forget missions that finished so long ago; effects stay known.
    """
    from outlast.cli.output import show_pruned

    show_pruned(older_than_days, as_json)


@app.command()
def forget(mission: MissionId) -> None:
    """
    Erase a finished MISSION, its effects too, from the store.
    """
    from outlast.cli.output import show_forgotten

    show_forgotten(mission)


def _update(mission: str, name: str, *args: object) -> None:
    from outlast.cli.run_mission import update, with_client

    asyncio.run(with_client(lambda client: update(client, mission, name, *args)))


def _print_json(value: object) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """
    Run outlast, with the verbs that installed packages add; none of them takes the
    place of one of ours.
    """
    whole = typer.Typer(**OPTIONS)
    for added in (*commands(_warn), app):  # of two of one name the later is taken
        whole.add_typer(added)
    run_command(whole)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
