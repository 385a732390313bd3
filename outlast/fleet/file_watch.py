"""
The parent's eye on a store in a file: the same file, with the same first bytes.

SQLite shows a file that was written over as it was, as long as the pages are in its log
or in memory. A worker must not read the file past it: to close it again would drop the
locks that SQLite has there. The parent has no store open.
"""

import os
from pathlib import Path

from outlast.store.sqlite_file import PUT_BACK

# What of the header no release of ours, and no checkpoint, ever changes: its magic and
# page size; encoding, version and the mark of the store's id.
SQLITE_HEADER_BYTES = 100
STABLE_HEADER = (slice(0, 18), slice(56, 72))

FileSignature = tuple[int, int, tuple[bytes, ...]]


class WatchedFile:
    """
    Watches the file at *path*; None for a store elsewhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._first: FileSignature | None = None

    def missing(self) -> str | None:
        """
        Check once, while workers have the file open; returns why it is lost, or None.
        """
        if self._path is None:
            return None
        try:
            seen = read_signature(self._path)
        except FileNotFoundError:
            return self._describe("has been deleted or moved")
        except OSError:
            return None  # the workers wait for it, or not
        self._first = self._first or seen
        if seen[:2] != self._first[:2]:
            return self._describe("has been replaced by another file")
        if seen != self._first:
            return self._describe("has been written over")
        return None

    def _describe(self, how: str) -> str:
        return f"the store at {self._path} {how} while it was in use: {PUT_BACK}"


def read_signature(path: Path) -> FileSignature:
    with path.open("rb") as file:
        found, header = os.fstat(file.fileno()), file.read(SQLITE_HEADER_BYTES)
    return found.st_dev, found.st_ino, tuple(header[part] for part in STABLE_HEADER)
