"""
The crew's verbs, which the entry point in `outlast.commands` adds to outlast.
"""

from pathlib import Path
from typing import Annotated

import typer

from outlast.cli.options import Embedded, Json, Name, Plain, Strict
from outlast.contracts.errors import BadInputError

app = typer.Typer()


@app.command()
def ask(
    question: str,
    documents: Annotated[Path, typer.Option(help="the folder to answer from")],
    embedded: Embedded = False,
    as_json: Json = False,
    strict: Strict = False,
    id_: Name = None,
    plain: Plain = False,
) -> None:
    """
    Answer QUESTION from a folder of documents, every quotation verified.
    """
    _refuse_without_extra()
    from outlast.cli.run_mission import RunOptions, run_and_report
    from outlast.crew.commands.answers import print_answer, print_answer_json
    from outlast.crew.commands.ingesting import ingest_if_shared
    from outlast.crew.commands.question import question_mission

    mission = question_mission(question, documents, id_)
    ingest_if_shared(documents)
    options = RunOptions(embedded, as_json, plain, strict)
    run_and_report(mission, options, print_answer_json, print_answer)


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(help="the documents")], as_json: Json = False
) -> None:
    """
    Index FOLDER into the store; a mission's librarian then takes `library: ID`.
    """
    _refuse_without_extra()
    from outlast.crew.commands.ingesting import show_ingested

    show_ingested(folder, as_json)


def _refuse_without_extra() -> None:
    """
    :raises BadInputError: when what reads documents is not installed.
    """
    from outlast.crew.agents import missing

    if absent := missing():
        raise BadInputError(
            f"the crew that answers questions lacks {', '.join(absent)}: "
            "pip install 'outlast[crew]'"
        )
