"""
The commands for what did not go well: what was given up, what others have ended in
Temporal, and effects that may have happened.
"""

from typing import Annotated

import typer

from outlast.cli.entrypoint import in_session
from outlast.cli.options import AnyMission, Json, Traces, WorkId

app = typer.Typer()


@app.command("dead-letters")
def dead_letters(
    name: AnyMission = None, traces: Traces = False, as_json: Json = False
) -> None:
    """
    List the tasks and items that were given up, and why.
    """
    from outlast.cli.dead_letters import show_dead_letters

    in_session(show_dead_letters, name, as_json, traces)


@app.command()
def redrive(
    name: WorkId,
    task: Annotated[str | None, typer.Option(help="only this task")] = None,
    item: Annotated[int | None, typer.Option(help="only this item")] = None,
    cause: Annotated[
        str | None, typer.Option(help="only items with these words in their cause")
    ] = None,
) -> None:
    """
    Try again what was given up, each task from its last checkpoint.
    """
    from outlast.cli.redrive import redrive as redrive_name

    in_session(redrive_name, name, task, item, cause)


@app.command()
def resume(name: WorkId) -> None:
    """
    Go on with what others have terminated or deleted in Temporal.
    """
    from outlast.cli.redrive import resume_interrupted

    in_session(resume_interrupted, name)


@app.command()
def abandon(name: WorkId) -> None:
    """
    End for good what others have terminated or deleted; what is done is kept.
    """
    from outlast.cli.redrive import abandon_interrupted

    in_session(abandon_interrupted, name)


@app.command()
def effects(mission: AnyMission = None, as_json: Json = False) -> None:
    """
    List what agents have done to the world, by whom, and which of it may not have
    happened.
    """
    from outlast.cli.effects import show_effects

    in_session(show_effects, mission, as_json)


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

    in_session(settle_effect, key, mission, happened, did_not_happen)
