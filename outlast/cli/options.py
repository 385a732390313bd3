"""
Arguments and options that several commands have, also those of other packages.
"""

from typing import Annotated

import typer

MissionId = Annotated[str, typer.Argument(help="the mission's id")]
TaskId = Annotated[str, typer.Argument(help="the task's id")]
Reason = Annotated[str, typer.Option(help="for the report")]
Request = Annotated[
    str, typer.Option(help="what you have seen, refused if it is another by now")
]
Json = Annotated[
    bool, typer.Option("--json", help="one JSON object on standard output")
]
Embedded = Annotated[
    bool, typer.Option(help="use, or start, the embedded server and workers")
]
Traces = Annotated[
    bool, typer.Option("--traces", help="with the tracebacks of what agents raised")
]
WorkId = Annotated[str, typer.Argument(help="the id of a mission or a batch")]
AnyMission = Annotated[str | None, typer.Argument(help="of this mission or batch only")]
BatchName = Annotated[
    str | None,
    typer.Option("--id", help="the batch's id; with the same one items are added"),
]
Strict = Annotated[bool, typer.Option(help="exit 3 when the result is degraded")]
Name = Annotated[
    str | None,
    typer.Option(
        "--id", help="the mission's id; the same id and content goes on or joins"
    ),
]
Plain = Annotated[bool, typer.Option(help="plain lines instead of a live board")]
