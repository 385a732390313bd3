"""
Whose code a file is: the user's, or that of Python, a library or this program.

The shipped crew counts as a user's: its failures are reported in the same way.
"""

import os
import sysconfig
from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def _below(*folders: Path | str) -> tuple[str, ...]:
    return tuple({f"{os.path.realpath(each)}{os.sep}" for each in folders})


# In a checkout `workflows` and `crew` are links to folders beside the package.
_OUR_FOLDER = _below(_PACKAGE, _PACKAGE / "workflows")
_CREW = _below(_PACKAGE / "crew")
_STDLIB_FOLDERS = _below(
    *filter(None, map(sysconfig.get_path, ("stdlib", "platstdlib"))),
)
INSTALLED = ("site-packages", "dist-packages")


@lru_cache(maxsize=4096)
def is_ours(file: str) -> bool:
    """
    True if *file* is the engine's.
    """
    whole = os.path.realpath(file)
    return whole.startswith(_OUR_FOLDER) and not whole.startswith(_CREW)


def is_library(file: str) -> bool:
    """
    True if *file* is Python's own or an installed package's.
    """
    # First as it is: a forked process asks for 1,000 files, and a disk takes 35 ms.
    return _in_library(file) or _in_library(os.path.realpath(file))


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """
    True if *file* is a user's own, or the shipped crew's.
    """
    if file.startswith("<") or is_ours(file):
        return False
    whole = os.path.realpath(file)
    return whole.startswith(_CREW) or not _in_library(whole)


def _in_library(file: str) -> bool:
    installed = any(part in INSTALLED for part in file.split(os.sep))
    return installed or file.startswith(_STDLIB_FOLDERS)
