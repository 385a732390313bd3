"""
The folders below which missions may have documents read, and files written.

What a mission names is resolved on the worker at the moment it is used, links and `..`
included: what lay inside when it was found may be a link to elsewhere by now.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from outlast.contracts.errors import OutsideError

# What lies in a home and is no output: written over, it would be the end of all.
STATE = ("store*", "temporal.*", "stack.*", "server.*", "users.lock", "run", "mesh")

_root: Path | None = None
# Where files may be written, None for wherever we can: a process of tests.
_outputs: list[Path] | None = None


def confine(root: Path | None, outputs: Sequence[Path] | None = None) -> None:
    """
    Let this process read documents below *root* alone, and missions have files written
    below *outputs*, the last of which is the home; None for wherever it can.
    """
    global _root, _outputs  # noqa: PLW0603 - one limit for all agents of a process
    _root = None if root is None else root.absolute()
    _outputs = None if outputs is None else [each.absolute() for each in outputs]


@contextmanager
def writing_below(roots: Sequence[Path] | None) -> Iterator[None]:
    """
    Let missions have files written below *roots* alone, for as long as this lasts; None
    where that is known no better than before.
    """
    before = _root, _outputs
    confine(_root, _outputs if roots is None else roots)
    try:
        yield
    finally:
        confine(*before)


def within(named: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, from the root if it is relative.

    :raises OutsideError: when it leads outside, whichever way.
    """
    if _root is None:
        return named
    found = _inside(named, [_root])
    if found is None:
        raise OutsideError(
            f"{named} is outside OUTLAST_DOCUMENTS_ROOT, {_root}: missions may have "
            "no other documents read here"
        )
    return found


def writable(named: Path, *also: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, for something to be written there;
    from the first root if it is relative.

    :param also: folders that are as good as the roots.
    :raises OutsideError: when it leads outside, whichever way, or to the home's state.
    """
    if _outputs is None:
        return named
    found = _inside(named, [*_outputs, *also])
    if found is None:
        roots = ", ".join(map(str, dict.fromkeys(_outputs)))
        raise OutsideError(
            f"{named} is outside {roots}: missions may have "
            "files written below OUTLAST_HOME or OUTLAST_OUTPUT_ROOT alone"
        )
    if _is_state(found, _outputs[-1]):
        raise OutsideError(
            f"{named} is where the home keeps its own state: name another folder"
        )
    return found


def _is_state(found: Path, home: Path) -> bool:
    """
    True if *found* is, or lies in, what the home needs for itself.
    """
    real = Path(os.path.realpath(home))
    if not found.is_relative_to(real):
        return False
    return any(
        fnmatchcase(part, own)
        for part in found.relative_to(real).parts[:1]
        for own in STATE
    )


def _inside(named: Path, roots: Sequence[Path]) -> Path | None:
    """
    Resolve *named*, from the first of *roots* if it is relative; None when it is in
    none of them.

    :raises OutsideError: when no file can have that name.
    """
    real = [Path(os.path.realpath(each)) for each in roots]
    try:
        found = Path(os.path.realpath(real[0] / named))
    except ValueError as error:
        raise OutsideError(f"{str(named)!r} is no path: {error}") from None
    return found if any(map(found.is_relative_to, real)) else None


def output_path(*also: Path) -> AfterValidator:
    """
    Have a field of an agent's input name only what may be written, resolved: anything
    else is refused before the mission starts.
    """

    def resolved(named: Path) -> Path:
        try:
            return writable(named, *also)
        except OutsideError as error:
            told = {"told": str(error)}
            raise PydanticCustomError("outside", "{told}", told) from None

    return AfterValidator(resolved)


OutputPath = Annotated[Path, output_path()]
