"""
The process's edge: every error becomes one sentence and an exit code.

    0 finished   1 failed or dead-lettered   2 bad input or nothing there to use
    3 degraded, with --strict                130 interrupted
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import typer
from typer.exceptions import TyperException

from outlast.contracts.errors import OutlastError, RefusedError
from outlast.process.called import note_call, tell
from outlast.process.json_output import reserved_stdout
from outlast.process.safe_output import make_streams_safe, stream_error
from outlast.telemetry import setup

if TYPE_CHECKING:
    from outlast.cli.session import Session

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_DEGRADED = 3
EXIT_INTERRUPTED = 130

P = ParamSpec("P")


def run_command(app: typer.Typer) -> None:
    """
    Run *app* and exit with the code that its end deserves.
    """
    note_call()
    make_streams_safe()
    code = _flushed(_run(app))
    setup.stop_telemetry()
    os._exit(code)  # a client's threads may not survive the interpreter's teardown


def in_session(
    command: "Callable[Concatenate[Session, P], Any]", *args: P.args, **more: P.kwargs
) -> Any:
    """
    Run *command* with a session of its own before its arguments; await it if it is
    async.
    """
    from outlast.cli.session import Session  # late: --help needs no Temporal

    with Session() as session:
        result = command(session, *args, **more)
        return asyncio.run(result) if isinstance(result, Coroutine) else result


def _run(app: typer.Typer) -> int:
    try:
        return app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except TyperException as error:
        print(f"error: {error.format_message()} (see --help)", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        return EXIT_FAILED  # of another than standard output, whose reader may leave
    except OutlastError as error:
        tell(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, RefusedError) else EXIT_BAD_INPUT


def _flushed(code: int) -> int:
    """
    Write what is still to be written; a disk that is full, for one, is a failure.
    """
    for stream in (reserved_stdout(), sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    failed = stream_error(reserved_stdout())
    if failed is None or isinstance(failed, BrokenPipeError):
        return code  # a reader who left, as `head` does, has seen enough
    print(f"error: the output cannot be written: {failed}", file=sys.stderr, flush=True)
    return code or EXIT_FAILED
