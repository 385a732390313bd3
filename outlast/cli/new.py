"""
Write a project of the user's own: one agent, one mission, a test, an image.
"""

import re
import sys
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path
from string import Template

from outlast.contracts.errors import BadInputError

# Where each file of `project` goes.
FILES = {
    "pyproject.txt": "pyproject.toml",
    "readme.txt": "README.md",
    "dockerfile.txt": "Dockerfile",
    "dockerignore.txt": ".dockerignore",
    "ignore.txt": ".gitignore",
    "mission.txt": "mission.yaml",
    "init.txt": "$module/__init__.py",
    "agents.txt": "$module/agents.py",
    "counting.txt": "$module/counting.py",
    "test.txt": "tests/test_agents.py",
}
TAKEN = {*sys.stdlib_module_names, "outlast", "tests"}


def write_project(folder: Path) -> list[Path]:
    """
    Write a project into *folder*, which is made or is empty; returns the files.

    :raises BadInputError: in one sentence.
    """
    module = _module_of(folder)
    _refuse_a_full(folder)
    names = {"name": module.replace("_", "-"), "module": module}
    source = files("outlast.cli") / "project"
    written = []
    try:
        for template, goes in FILES.items():
            file = folder / Template(goes).substitute(names)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (source / template).read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(names), encoding="utf-8")
            written.append(file)
    except OSError as error:
        raise BadInputError(
            f"{error.filename or folder} cannot be written: {error.strerror}"
        ) from None
    return written


def _module_of(folder: Path) -> str:
    """
    Name the project's module after its folder.

    :raises BadInputError: when that is no name of a module, or one that is taken.
    """
    name = folder.resolve().name
    module = re.sub(r"[-. ]", "_", name).lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or iskeyword(module):
        raise BadInputError(
            f"{name!r} is no name for a module of Python: choose another DIR, of "
            "letters, digits and dashes"
        )
    if module in TAKEN:
        raise BadInputError(
            f"there is a module {module!r} already, and imports would find that one: "
            "choose another DIR"
        )
    return module


def _refuse_a_full(folder: Path) -> None:
    try:
        full = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise BadInputError(f"{folder} cannot be read: {error.strerror}") from None
    if full:
        raise BadInputError(
            f"{folder} is there and not empty: name a DIR that is new, or empty it"
        )
