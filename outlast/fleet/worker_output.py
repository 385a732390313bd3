"""
What a worker process prints and logs: whole lines, each with the attempt that it comes
from, without control characters and secrets.

    [m1/refund #2] shop.agents asking the bank

Several attempts print at once, and `print` writes a line in pieces: a line waits here,
apart for each attempt and thread, until it is whole or is flushed.
"""

import contextlib
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Collection

from outlast.agents.user_code import is_users
from outlast.contracts.errors import NewerStateError
from outlast.process.safe_output import SafeStream
from outlast.secrets import mask
from outlast.settings import settings
from outlast.telemetry.log_context import AttemptName, logging_attempt, name_records

# A line that grows past this is written in pieces.
OUTPUT_LINE_CHARS = 16_384
# A progress bar ends its lines so: each is one of the log.
_LINE_ENDS = re.compile(r"\r\n|\n|\r")

WORKFLOW_LOGGER = "temporalio.worker._workflow_instance"
ACTIVITY_LOGGER = "temporalio.activity"

Writer = tuple[AttemptName | None, int]


class WorkerStream(SafeStream):
    """
    Standard output or error of a worker. It is no terminal, so that libraries send it
    no colours.
    """

    def __init__(self, terminal: io.TextIOWrapper) -> None:
        super().__init__(terminal)
        self._replace_lock()
        self.reconfigure(line_buffering=True)
        os.register_at_fork(after_in_child=self._replace_lock)

    def _replace_lock(self) -> None:
        # Also in a process that an agent forks: another thread may have held the lock.
        self._partial: dict[Writer, str] = {}
        # Re-entrant: a signal handler may print while a line is written.
        self._lock = threading.RLock()

    def isatty(self) -> bool:
        return False

    def write(self, text: str, /) -> int:
        writer = logging_attempt(), threading.get_ident()
        with self._lock:
            *lines, rest = _LINE_ENDS.split(self._partial.pop(writer, "") + text)
            for line in lines:
                self._write_line(writer, line)
            if len(rest) > OUTPUT_LINE_CHARS:
                self._write_line(writer, rest)
            elif rest:
                self._partial[writer] = rest
        return len(text)

    def flush(self) -> None:
        writer = logging_attempt(), threading.get_ident()
        with self._lock:
            if rest := self._partial.pop(writer, ""):
                self._write_line(writer, rest)
            super().flush()

    def finish(self) -> None:
        """
        Write what attempts have begun and not ended, before the process ends.
        """
        with self._lock:
            for writer, rest in self._partial.items():
                self._write_line(writer, rest)
            self._partial.clear()
            super().flush()

    def _write_line(self, writer: Writer, line: str) -> None:
        attempt, _ = writer
        prefix = f"[{attempt}] " if attempt else ""
        super().write(f"{prefix}{mask(line)}\n")


class UserCodeFilter(logging.Filter):
    """
    Let through what users' modules log from *level* on, and of libraries, which have
    much to say, what is at least a warning.

    :param packages: of agents that are installed as a library.
    """

    def __init__(self, level: int, packages: Collection[str] = ()) -> None:
        super().__init__()
        self._level = level
        self._packages = frozenset(packages)

    def filter(self, record: logging.LogRecord) -> bool:
        mine = record.name.split(".")[0] in self._packages or is_users(record.pathname)
        return record.levelno >= (self._level if mine else logging.WARNING)


def begin_log() -> None:
    """
    Have this process print and log so, before it imports an agent: in a worker as in
    its fork server. A module of agents that sets logging up for itself, with
    `force=True`, has it its way.
    """
    chosen = settings()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # The fork server has done so already for a worker that it forks.
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, SafeStream):
            stream.flush()
            setattr(sys, name, WorkerStream(stream))
    name_records()
    level = logging.getLevelNamesMapping()[chosen.log_level]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    modules = [each for each in chosen.users_modules if not each.endswith(".py")]
    packages = [each.split(".")[0] for each in modules]
    handler.addFilter(UserCodeFilter(level, packages))
    logging.basicConfig(level=min(level, logging.WARNING), handlers=[handler])
    install_log_filters()


def finish_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # an agent has closed it
            if isinstance(stream, WorkerStream):
                stream.finish()
            elif stream is not None:
                stream.flush()


def install_log_filters() -> None:
    """
    Have state that this release is too old for logged as one sentence instead of the
    tracebacks of the SDK's failed tasks. The server keeps the tasks for newer workers.
    """
    logging.getLogger(WORKFLOW_LOGGER).addFilter(_shorten_refusal)
    logging.getLogger(ACTIVITY_LOGGER).addFilter(_shorten_refusal)


def _shorten_refusal(record: logging.LogRecord) -> bool:
    refused = _newer_state_error(record)
    if refused is not None:
        record.msg, record.args = "state.refused: %s", (refused,)
        record.exc_info = record.exc_text = None
        return True
    # We tell of every failed attempt ourselves, with one traceback instead of two.
    return record.name != ACTIVITY_LOGGER or record.levelno >= logging.ERROR


def _newer_state_error(record: logging.LogRecord) -> NewerStateError | None:
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        if isinstance(error, NewerStateError):
            return error
        error = error.__cause__
    return None
