"""
The user's project: the nearest folder, from the current one upwards, whose
pyproject.toml has a table [tool.outlast]. So a command means the same in each folder of
the project.

    [tool.outlast]
    agents = ["mymodule"]     # modules by name, or files

A file that another user could have put above us is passed over: what it names is
imported.
"""

import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.validation_faults import faults_of

FILE = "pyproject.toml"


class Table(BaseModel):
    """
    What [tool.outlast] may say.
    """

    model_config = ConfigDict(extra="forbid")

    agents: list[str] = []


@dataclass(frozen=True)
class Project:
    """
    A folder, and the modules of the agents that it names: files with their whole path.
    """

    root: Path
    modules: tuple[str, ...]


@cache
def project_of(folder: Path) -> Project | None:
    """
    Find the project that *folder* belongs to; None where there is none.

    :raises BadInputError: when its table cannot be read, in one sentence.
    """
    for file in upwards(folder, FILE):
        table = _table(file)
        if table is not None:
            return _read(file, table)
    return None


def importable() -> list[Path]:
    """
    List the folders in which a user's modules are found by name: the project's own,
    its `src`, and the current one.
    """
    found = project_of(Path.cwd())
    own = [] if found is None else [found.root, found.root / "src"]
    return [*(each for each in own if each.is_dir()), Path.cwd()]


def upwards(folder: Path, name: str) -> Iterator[Path]:
    """
    Find the files of that *name* in *folder* and those above it, the nearest first.
    """
    for each in (folder, *folder.parents):
        file = each / name
        if file.is_file() and (each == folder or _is_trusted(file)):
            yield file


def _is_trusted(file: Path) -> bool:
    found = file.stat()
    return found.st_uid in (0, os.getuid()) and not found.st_mode & stat.S_IWOTH


def _table(file: Path) -> Any:
    text = file.read_text(encoding="utf-8", errors="replace")
    if "outlast" not in text:
        return None
    try:
        return tomllib.loads(text).get("tool", {}).get("outlast")
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        if "tool.outlast" not in text:
            return None  # it is another's to complain about
        raise BadInputError(f"{file} cannot be read: {error}") from None


def _read(file: Path, table: Any) -> Project:
    if not isinstance(table, dict):
        raise BadInputError(f"{file}: [tool.outlast] must be a table")
    try:
        told = Table.model_validate(table)
    except ValidationError as error:
        place, fault = faults_of(error)[0]
        raise BadInputError(
            f"{file}: [tool.outlast] {place}: {fault.lower()}; it may say "
            'agents = ["mymodule"]'
        ) from None
    root = file.parent
    modules = (str(root / each) if each[-3:] == ".py" else each for each in told.agents)
    return Project(root, tuple(modules))
