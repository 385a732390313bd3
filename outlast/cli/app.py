"""
The command line of outlast: its own commands and those that installed packages add.
"""

import sys
from typing import Any

import typer

from outlast.cli import (
    mesh,
    mission_commands,
    operator_commands,
    repair_commands,
)
from outlast.cli.entrypoint import run_command
from outlast.process.installed import commands

OPTIONS: dict[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "help": "Run missions of agents that finish their work when anything fails.",
}
app = typer.Typer(**OPTIONS)
app.add_typer(mission_commands.app)
app.add_typer(repair_commands.app)
app.add_typer(operator_commands.app)
app.add_typer(mesh.app, name="mesh")


def main() -> None:
    """
    Run outlast. A command of an installed package does not replace one of ours.
    """
    whole = typer.Typer(**OPTIONS)
    for added in (*commands(_warn), app):  # of two of one name the later is taken
        whole.add_typer(added)
    run_command(whole)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
