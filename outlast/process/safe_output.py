"""
Standard output and error as text that a terminal shows and never obeys.

What agents, and what they read, say ends up on a terminal or in a log: with its
escape sequences it could clear the screen, set the clipboard or forge a line. All text
of a process leaves through one of these streams; only the live board of `rich` writes
to the terminal itself, with every text in it made visible first.
"""

import contextlib
import io
import os
import sys
from typing import TextIO, cast

from outlast.contracts.text import visible
from outlast.secrets import mask


class SafeStream(io.TextIOWrapper):
    """
    A text stream over *terminal* that writes control characters out, puts "?" for a
    letter that the terminal cannot print, and outlives its reader.
    """

    def __init__(self, terminal: io.TextIOWrapper) -> None:
        super().__init__(
            terminal.buffer,
            encoding=terminal.encoding,
            errors="replace",
            line_buffering=terminal.line_buffering,
            write_through=terminal.write_through,
        )
        self.terminal = terminal  # kept: it would close the buffer with itself
        self.ended: OSError | None = None  # why nothing is written any more

    def write(self, text: str, /) -> int:
        try:
            super().write(visible(text))
        except OSError as error:
            self._end(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        """
        Go on without a reader, as of `| head`, or without room on the disk: a command
        has its own end to come to, and no agent fails because of a log.
        """
        if isinstance(error, BlockingIOError):
            return  # somebody has made the terminal non-blocking: this text is lost
        self.ended = error
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.fileno())
        os.close(devnull)


class ErrorStream(SafeStream):
    """
    Standard error with secrets masked: what agents raise at import goes there.
    """

    def write(self, text: str, /) -> int:
        super().write(mask(text))
        return len(text)


def make_streams_safe() -> None:
    """
    Have this process write to its standard output and error in safe text only.
    """
    for name, kind in (("stdout", SafeStream), ("stderr", ErrorStream)):
        stream = getattr(sys, name)
        # None where it was closed; something else under a test or within a notebook.
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, SafeStream):
            stream.flush()
            stream.reconfigure(errors="replace")
            setattr(sys, name, kind(stream))


def terminal_of(stream: TextIO) -> TextIO:
    return stream.terminal if isinstance(stream, SafeStream) else stream


class Display(io.TextIOBase):
    """
    The terminal below *stream*, for a display that moves the cursor itself and makes
    every text in it visible. It outlives the terminal: a command whose terminal was
    closed has its own end to come to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = terminal_of(stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._terminal.encoding

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            self._terminal.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._terminal.flush()


def display_of(stream: TextIO) -> TextIO:
    return cast(TextIO, Display(stream))


def stream_error(stream: TextIO | None) -> OSError | None:
    """
    Return why nothing is written to *stream* any more: a long listing need not go on.
    """
    return stream.ended if isinstance(stream, SafeStream) else None
