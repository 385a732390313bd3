"""
Whose code a file is: the user's, or that of Python, a library or this program.

The crew that comes with us counts as a user's: its failures are told in the same way.
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
_LIBRARIES = ("site-packages", "dist-packages")


@lru_cache(maxsize=4096)
def is_ours(file: str) -> bool:
    """
    Say whether *file* is a part of this program.
    """
    whole = os.path.realpath(file)
    return whole.startswith(_OUR_FOLDER) and not whole.startswith(_CREW)


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """
    Say whether *file* is a user's own, or our crew's: not the engine's, not Python's,
    and no library.
    """
    if file.startswith("<") or is_ours(file):
        return False
    whole = os.path.realpath(file)
    if whole.startswith(_CREW):
        return True
    installed = any(part in _LIBRARIES for part in Path(whole).parts)
    return not installed and not whole.startswith(_STDLIB_FOLDERS)
