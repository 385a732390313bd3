"""
The documents below a folder, in the same order on every run.

Hidden files are left out, and so are links that lead outside: who may name a folder
may not read the rest of the disk by a link in it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.crew.library.documents_root import resolve_within
from outlast.crew.library.parsing import SUFFIXES


@dataclass(frozen=True)
class ScannedFile:
    """
    A file as it lies in the folder; *path* is below it, with "/".
    """

    path: str
    file: Path
    size: int
    mtime_ns: int
    problem: str | None = None  # why it cannot even be opened


def scan(folder: Path) -> list[ScannedFile]:
    """
    List the documents below *folder* by path.

    :raises OSError: when the folder itself cannot be read.
    :raises OutsideFolderError: when missions may not read it here.
    """
    root = resolve_within(folder).resolve(strict=True)
    with os.scandir(root):
        pass  # A folder that cannot be read must not look like an empty one.
    return sorted(_documents(root), key=lambda each: each.path)


def stat_document(folder: Path, path: str) -> ScannedFile:
    """
    Look at the one document at *path* below *folder*.

    :raises OutsideFolderError: when missions may not read that folder here.
    """
    root = resolve_within(folder).resolve()
    file = root / path
    if not Path(os.path.realpath(file)).is_relative_to(root):
        # It has become a link since it was listed, or was never listed.
        return ScannedFile(path, file, 0, 0, "leads outside its folder")
    return _listed(root, file)


def _documents(root: Path) -> Iterator[ScannedFile]:
    """
    Walk over *root*, each real folder once: links may lead in a circle.
    """
    waiting, seen = [root], {root}
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            yield _locked(root, folder, error)
            continue
        for entry in entries:
            if not _is_own_file(root, entry):
                continue
            if entry.is_dir() and (real := entry.resolve()) not in seen:
                seen.add(real)
                waiting.append(entry)
            elif entry.suffix.lower() in SUFFIXES and entry.is_file():
                yield _listed(root, entry)


def _is_own_file(root: Path, entry: Path) -> bool:
    if entry.name.startswith("."):
        return False
    return not entry.is_symlink() or entry.resolve().is_relative_to(root)


def _listed(root: Path, file: Path) -> ScannedFile:
    path, problem = _name(root, file)
    try:
        found = file.stat()
    except OSError as error:
        return _locked(root, file, error)
    return ScannedFile(path, file, found.st_size, found.st_mtime_ns, problem)


def _locked(root: Path, file: Path, error: OSError) -> ScannedFile:
    path, _ = _name(root, file)
    return ScannedFile(path, file, 0, 0, f"cannot be opened: {error.strerror or error}")


def _name(root: Path, file: Path) -> tuple[str, str | None]:
    """
    The name of *file* below *root* as text, and what is wrong with it if it is none.
    """
    name = file.relative_to(root).as_posix()
    readable = os.fsencode(name).decode("utf-8", "replace")
    return readable, None if readable == name else "has a name that is not UTF-8"
