"""
The folders below which missions may have files written.

What a mission names is resolved on the worker at the moment it is used, links and `..`
included: what lay inside when it was found may be a link to elsewhere by now.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from outlast.contracts.errors import OutsideFolderError

# What a home keeps for itself: a mission that wrote over it would end all the others.
STATE_FILES = (
    "store*",
    "temporal.*",
    "stack.*",
    "server.*",
    "users.lock",
    "run",
    "mesh",
)

# None for wherever we can: a process of tests.
_outputs: list[Path] | None = None


def set_roots(outputs: Sequence[Path] | None) -> None:
    """
    Limit where missions have files written in this process to *outputs*, of which the
    last is the home; None for wherever it can.
    """
    global _outputs  # noqa: PLW0603 - one limit for all agents of a process
    _outputs = None if outputs is None else [each.absolute() for each in outputs]


@contextmanager
def writing_within(roots: Sequence[Path] | None) -> Iterator[None]:
    """
    Limit where missions have files written to *roots* within this; None: as before.
    """
    before = _outputs
    set_roots(_outputs if roots is None else roots)
    try:
        yield
    finally:
        set_roots(before)


def writable(named: Path, *also: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, for something to be written there;
    from the first root if it is relative.

    :param also: folders that are as good as the roots.
    :raises OutsideFolderError: when it leads outside, whichever way, or to the home's
        state.
    """
    if _outputs is None:
        return named
    found = inside(named, [*_outputs, *also])
    if found is None:
        roots = ", ".join(map(str, dict.fromkeys(_outputs)))
        raise OutsideFolderError(
            f"{named} is outside {roots}: missions may have files written below "
            "OUTLAST_HOME or OUTLAST_OUTPUT_ROOT alone"
        )
    if _is_state(found, _outputs[-1]):
        raise OutsideFolderError(
            f"{named} is where the home keeps its own state: name another folder"
        )
    return found


def _is_state(found: Path, home: Path) -> bool:
    real = Path(os.path.realpath(home))
    if found == real or not found.is_relative_to(real):
        return False
    first = found.relative_to(real).parts[0]
    return any(fnmatchcase(first, own) for own in STATE_FILES)


def inside(named: Path, roots: Sequence[Path]) -> Path | None:
    """
    Resolve *named*, from the first of *roots* if it is relative; None when it is in
    none of them.

    :raises OutsideFolderError: when no file can have that name.
    """
    real = [Path(os.path.realpath(each)) for each in roots]
    try:
        found = Path(os.path.realpath(real[0] / named))
    except ValueError as error:
        raise OutsideFolderError(f"{str(named)!r} is no path: {error}") from None
    return found if any(map(found.is_relative_to, real)) else None


def output_path(also: Callable[[], Iterable[Path]] = tuple) -> AfterValidator:
    """
    Have a field of an agent's input name only what may be written, resolved: anything
    else is refused before the mission starts.

    :param also: lists folders that are as good as the roots.
    """

    def resolved(named: Path) -> Path:
        try:
            return writable(named, *also())
        except OutsideFolderError as error:
            why = {"why": str(error)}
            raise PydanticCustomError("outside", "{why}", why) from None

    return AfterValidator(resolved)


OutputPath = Annotated[Path, output_path()]
