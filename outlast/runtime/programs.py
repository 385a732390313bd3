"""
How programs of this package are started: this very copy, from whatever folder.
"""

import os
import sys
from pathlib import Path
from site import getsitepackages

ROOT = Path(__file__).parents[2]


def module(name: str) -> list[str]:
    """
    Make the command that runs our module *name*. From elsewhere than our own folder
    the current one is not searched: another copy may lie there.
    """
    return [sys.executable, *([] if _at_home() else ["-P"]), "-m", name]


def environment() -> dict[str, str]:
    """
    Make the environment in which such a command finds us.
    """
    if _at_home() or str(ROOT) in getsitepackages():
        return dict(os.environ)
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _at_home() -> bool:
    try:
        return Path.cwd() == ROOT.resolve()
    except OSError:  # the folder is gone
        return False
