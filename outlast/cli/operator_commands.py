"""
The commands for those who run workers, servers and stores, and who write agents. Each
imports what it calls when it is called, so that every command starts fast.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.entrypoint import in_session
from outlast.cli.options import AnyMission, Json, WorkId
from outlast.contracts.errors import BadInputError
from outlast.process.called import tell

RUN_FIRST = "outlast run mission.yaml --embedded"

app = typer.Typer()


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
    from outlast.cli.dev import run_dev

    raise typer.Exit(run_dev(port, ui_port, processes, as_json, until_unused))


@app.command()
def doctor(as_json: Json = False) -> None:
    """
    Check this machine, the store and the server; name wedged missions.
    """
    from outlast.cli.doctor import examine

    raise typer.Exit(in_session(examine, as_json))


@app.command()
def audit(mission: AnyMission = None, as_json: Json = False) -> None:
    """
    Count what was accepted and how it ended; exit 1 where a guarantee was broken.
    """
    from outlast.cli.audit import show_audit

    raise typer.Exit(in_session(show_audit, mission, as_json))


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
    from outlast.cli.workers import show_workers

    in_session(show_workers, as_json)


@app.command()
def builds(as_json: Json = False) -> None:
    """
    List the builds: which one has the new missions, which fleet may stop.
    """
    from outlast.cli.builds import show_builds

    in_session(show_builds, as_json)


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

    if none == bool(build):
        raise BadInputError("name the BUILD, or say --none")
    in_session(promote_build, build, as_json)


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
    from outlast.cli.migrate import migrate_store

    migrate_store(new_temporal)


@app.command()
def prune(
    older_than_days: Annotated[float, typer.Option(min=0)] = 30.0,
    as_json: Json = False,
) -> None:
    """
    Forget missions that finished so long ago; effects stay known.
    """
    from outlast.cli.forget import show_pruned

    in_session(show_pruned, older_than_days, as_json)


@app.command()
def forget(mission: WorkId) -> None:
    """
    Erase a finished MISSION, its effects too, from the store.
    """
    from outlast.cli.forget import show_forgotten

    in_session(show_forgotten, mission)
