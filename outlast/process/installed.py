"""
What installed packages add: agents and verbs, each by an entry point of its group.

    [project.entry-points."outlast.agents"]    NAME = "module" or "module:function"
    [project.entry-points."outlast.commands"]  NAME = "module:app", a typer.Typer

The crew that is shipped comes by the same door: nothing here knows of it.
"""

import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from outlast.contracts.errors import BadInputError, OutlastError

AGENTS_GROUP = "outlast.agents"
COMMANDS_GROUP = "outlast.commands"

OWN_PACKAGE = "outlast"
PROJECT_FILE = Path(__file__).parents[2] / "pyproject.toml"


@cache
def agent_modules(for_workers: bool) -> list[str]:
    """
    List the modules of agents that installed packages name, or that a function of
    theirs lists when it is called with *for_workers*.

    :param for_workers: for a process that plays agents and does not only name them.
    :raises BadInputError: when such a function fails.
    """
    found: list[str] = []
    for each in entry_points_of(AGENTS_GROUP):
        found += _listed(each, for_workers) if each.attr else [each.module]
    return found


def commands(warn: Callable[[str], None]) -> Iterator[Any]:
    """
    Load the typer.Typer of each installed package that adds verbs.

    :param warn: takes a sentence on one that cannot be loaded: the others still can.
    """
    for each in entry_points_of(COMMANDS_GROUP):
        try:
            yield each.load()
        except Exception as error:
            warn(f"{_load_error_text(each, error)}; mend or uninstall it")


def entry_points_of(group: str) -> list[EntryPoint]:
    """
    List the entry points of *group*. A checkout of ours says its own in its
    pyproject.toml: it need not be installed, and may have been as it was before.
    """
    installed = list(entry_points(group=group))
    if (ours := _of_checkout(group)) is None:
        return installed
    others = [
        each for each in installed if each.dist is None or each.dist.name != OWN_PACKAGE
    ]
    return [*ours, *others]


def _of_checkout(group: str) -> list[EntryPoint] | None:
    try:
        project = tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return None
    if project.get("name") != OWN_PACKAGE:
        return None
    named = project.get("entry-points", {}).get(group, {})
    return [EntryPoint(name, value, group) for name, value in named.items()]


def _listed(entry: EntryPoint, for_workers: bool) -> list[str]:
    try:
        return list(entry.load()(for_workers))
    except OutlastError:
        raise
    except Exception as error:
        raise BadInputError(_load_error_text(entry, error)) from error


def _load_error_text(entry: EntryPoint, error: Exception) -> str:
    named = f"{entry.group} {entry.name} ({entry.value})"
    return f"{named} cannot be used: {type(error).__name__}: {error}"
