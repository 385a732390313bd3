"""
Where items come from: JSON lines in a file or through a pipe, or the files of a
folder. They are read one after the other, never all at once.
"""

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from outlast.contracts.errors import BadInputError
from outlast.contracts.sizes import KIB, MAX_RESULT_BYTES, MIB
from outlast.contracts.text import canonical_json, one_line

# Items that are written at once as they come in, how large they are together, and how
# long they wait for company.
FEED_ITEMS = 1_000
FEED_CHARS = 8 * MIB
FEED_LINGER_S = 0.1

# Says why an item, which is given with its JSON, does not fit its agent.
ErrorOf = Callable[[Any, str], str | None]


def fits(item: Any, text: str) -> None:
    """
    Find nothing wrong with *item*.
    """


class SourceItem(NamedTuple):
    """
    An item as it came: its canonical JSON, or why it is none.
    """

    body: str
    error: str | None = None


@dataclass(frozen=True)
class ItemSource:
    """
    Where items come from; *items* may be read more than once unless it is a pipe.
    """

    name: str
    total: int | None  # None for a pipe: known when it ends
    items: Callable[[], Iterator[SourceItem]]


def item_source(
    where: str, fault_of: ErrorOf = fits, largest: int = MAX_RESULT_BYTES
) -> ItemSource:
    """
    Find the items at *where*: a file of JSON lines, a folder, or - for standard input.

    :param fault_of: says why an item does not fit its agent. What comes through a pipe
        is a dead letter then, since others may be at work already.
    :raises BadInputError: naming the first line that is no item, or does not fit.
    """
    if where == "-":
        name = "standard input"
        read = partial(read_lines, sys.stdin.buffer, name, fault_of, largest)
        return ItemSource(name, None, read)
    path = Path(where).expanduser()
    if path.is_dir():
        return _folder(path, fault_of)
    try:
        with path.open("rb") as file:
            total = count_items(read_lines(file, where, fault_of, largest))
    except OSError as error:
        raise BadInputError(f"{where} cannot be read: {error.strerror}") from None
    if not total:
        raise BadInputError(f"{where} holds no items: give a JSON object a line")
    return ItemSource(where, total, lambda: _read_file(path, largest))


def _read_file(path: Path, largest: int) -> Iterator[SourceItem]:
    with path.open("rb") as file:
        yield from read_lines(file, str(path), largest=largest)


def _folder(path: Path, fault_of: ErrorOf) -> ItemSource:
    try:
        files = _files_below(path.resolve(strict=True))
    except OSError as error:
        named = error.filename or path
        raise BadInputError(f"{named} cannot be read: {error.strerror}") from None
    if not files:
        raise BadInputError(
            f"{path} holds no file: give a folder with the files to work on"
        )
    items = [{"path": str(each)} for each in files]
    bodies = [canonical_json(each) for each in items]
    fault = fault_of(items[0], bodies[0])
    if fault is not None:
        raise BadInputError(f"the files of {path} become items, each a path: {fault}")
    return ItemSource(
        str(path), len(bodies), lambda: (SourceItem(each) for each in bodies)
    )


def _files_below(root: Path) -> list[Path]:
    """
    List the files below *root* in the same order on every run: without hidden ones,
    and without links that lead outside.

    :raises OSError: when a folder cannot be read, rather than leave its files out.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for folder, inner, names in os.walk(root, onerror=fail):
        inner[:] = [each for each in inner if not each.startswith(".")]
        files = [Path(folder, each) for each in names if not each.startswith(".")]
        found += [each for each in files if _is_within(root, each)]
    return sorted(found, key=lambda each: each.relative_to(root).as_posix())


def _is_within(root: Path, file: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(root)


def read_lines(
    file: BinaryIO,
    name: str,
    fault_of: ErrorOf = fits,
    largest: int = MAX_RESULT_BYTES,
) -> Iterator[SourceItem]:
    """
    Read items from JSON lines, one after the other; blank lines are no items.
    """
    for number, line in enumerate(_lines(file, largest), 1):
        if line.strip():
            yield _item(line, f"{name} line {number}", fault_of, largest)


def count_items(items: Iterable[SourceItem]) -> int:
    """
    Read all *items* once and count them.

    :raises BadInputError: naming the line of the first that is none.
    """
    count = 0
    for each in items:
        if each.error is not None:
            raise BadInputError(each.error)
        count += 1
    return count


class BackgroundReader:
    """
    Items as they come: read by a thread that nobody waits for, since a pipe may stay
    silent for ever, and no further ahead than memory allows.
    """

    def __init__(self, given: Iterable[SourceItem]) -> None:
        self._came: deque[SourceItem] = deque()
        self._size = 0  # of these
        self._over = False
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        threading.Thread(target=self._read, args=(given,), daemon=True).start()

    def _read(self, given: Iterable[SourceItem]) -> None:
        try:
            for each in given:
                self._put(each)
        except Exception as error:
            self._error = error
        with self._lock:
            self._over = True
            self._changed.notify_all()

    def _put(self, each: SourceItem) -> None:
        with self._lock:
            while self._size >= 4 * FEED_CHARS:
                self._changed.wait()
            self._came.append(each)
            self._size += _weight(each)
            if self._is_chunk():
                self._changed.notify_all()

    def _is_chunk(self) -> bool:
        return len(self._came) >= FEED_ITEMS or self._size >= FEED_CHARS or self._over

    def next(self) -> list[SourceItem] | None:
        """
        Return what has come, at most a chunk of it; None at the end.

        :raises OSError: when the source breaks.
        """
        with self._lock:
            self._changed.wait_for(self._is_chunk, FEED_LINGER_S)
            found: list[SourceItem] = []
            size = 0
            while self._came and len(found) < FEED_ITEMS and size < FEED_CHARS:
                found.append(each := self._came.popleft())
                size += _weight(each)
            self._size -= size
            self._changed.notify_all()
            if not found and self._error is not None:
                raise self._error
            return None if self._over and not found else found


def _weight(item: SourceItem) -> int:
    # With what an object costs besides: of a million small items too.
    return KIB + len(item.body)


def _lines(file: BinaryIO, largest: int) -> Iterator[bytes]:
    """
    Read lines of at most one item's size and a little more; the rest of a longer one
    is left out.
    """
    whole = True
    while line := file.readline(largest + KIB):
        if whole:
            yield line
        whole = line.endswith(b"\n")


def _item(line: bytes, place: str, fault_of: ErrorOf, largest: int) -> SourceItem:
    if len(line.strip()) > largest:
        told = one_line(line[:KIB].decode(errors="replace"), 200)
        fault = (
            f"{place}: an item of more than {largest} bytes: raise OUTLAST_LARGEST_MB, "
            "or give where it lies"
        )
        return SourceItem(json.dumps(f"{place}: {told}"), fault)
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        told = one_line(line[:KIB].decode(errors="replace"), 200)
        return SourceItem(json.dumps(f"{place}: {told}"), f"{place}: no JSON: {error}")
    if not isinstance(item, dict):
        return SourceItem(json.dumps(item), f"{place}: an item must be a JSON object")
    try:
        body = canonical_json(item)
    except ValueError as error:
        return SourceItem(json.dumps(place), f"{place}: no JSON: {error}")
    misfit = fault_of(item, body)
    return SourceItem(body, None if misfit is None else f"{place}: {misfit}")
