"""
What a process says in JSON on standard output, whatever else is printed there: the one
object of a command with --json, or lines for the process that started it.

A process that imports agents' modules cannot know what these print, then or later from
a thread of theirs. It keeps standard output for its answer; all else that is written
there goes to standard error.
"""

import io
import json
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from outlast.process.safe_output import SafeStream

STDOUT, STDERR = 1, 2

_reserved: list[TextIO] = []


def reserve_stdout() -> None:
    """
    Keep standard output for the answer, from now on.
    """
    if _reserved or not isinstance(sys.stdout, io.TextIOWrapper):
        return  # closed, or captured by a test
    sys.stdout.flush()
    kept = open(  # noqa: SIM115 - for as long as the process lives
        os.dup(STDOUT), "w", encoding=sys.stdout.encoding, errors="replace"
    )
    # The old one too: it would close the descriptor with itself.
    _reserved.extend([SafeStream(kept), sys.stdout])
    os.dup2(STDERR, STDOUT)
    sys.stdout = sys.stderr


def reserved_stdout() -> TextIO:
    return _reserved[0] if _reserved else sys.stdout


def print_json_answer(value: Any) -> None:
    print(json.dumps(value), file=reserved_stdout(), flush=True)


def print_json_rows(value: dict[str, Any], name: str, rows: Iterable[Any]) -> None:
    """
    Print *value* and, in its field *name*, the *rows* as one line of JSON; one row at a
    time, since all of them may not fit into memory.
    """
    out, apart = reserved_stdout(), ""
    out.write(json.dumps(value)[:-1] + f', "{name}": [')
    for row in rows:
        out.write(apart + json.dumps(row))
        apart = ", "
    print("]}", file=out, flush=True)
