"""
Whose code a file is: the user's, or that of Python, a library or this program.

The crew that comes with us counts as a user's: its failures are told in the same way.
"""

import os
import sysconfig
from functools import lru_cache
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
_OURS = (f"{_HERE}{os.sep}", f"{_HERE.parent / 'workflows'}{os.sep}")
_PYTHONS = tuple(
    {
        f"{os.path.realpath(path)}{os.sep}"
        for name in ("stdlib", "platstdlib")
        if (path := sysconfig.get_path(name))
    }
)
_LIBRARIES = ("site-packages", "dist-packages")


@lru_cache(maxsize=4096)
def is_ours(file: str) -> bool:
    """
    Say whether *file* is a part of this program.
    """
    return os.path.realpath(file).startswith(_OURS)


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """
    Say whether *file* is a user's own: not ours, not Python's, and no library.
    """
    if file.startswith("<") or is_ours(file):
        return False
    whole = os.path.realpath(file)
    installed = any(part in _LIBRARIES for part in Path(whole).parts)
    return not installed and not whole.startswith(_PYTHONS)
