"""
The one folder below which missions may have documents read, where there is one.

What a mission names is resolved on the worker at the moment it is read, links and `..`
included: what lay inside when it was found may be a link to elsewhere by now.
"""

import os
from pathlib import Path

from outlast.contracts.errors import OutsideError

_root: Path | None = None


def confine(root: Path | None) -> None:
    """
    Let this process read documents below *root* alone; None for wherever it can.
    """
    global _root  # noqa: PLW0603 - one limit for all agents of a process
    _root = None if root is None else root.absolute()


def within(named: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, from the root if it is relative.

    :raises OutsideError: when it leads outside, whichever way.
    """
    if _root is None:
        return named
    root = Path(os.path.realpath(_root))
    try:
        found = Path(os.path.realpath(root / named))
    except ValueError as error:  # a name that no file can have
        raise OutsideError(f"{str(named)!r} is no path: {error}") from None
    if not found.is_relative_to(root):
        raise OutsideError(
            f"{named} is outside OUTLAST_DOCUMENTS_ROOT, {_root}: missions may have "
            "no other documents read here"
        )
    return found
