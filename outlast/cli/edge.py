"""
The process's edge: every error becomes one sentence and an exit code.

    0 finished   1 failed or dead-lettered   2 bad input or nothing there to use
    3 degraded, with --strict                130 interrupted
"""

import contextlib
import os
import sys

import typer
from typer.exceptions import TyperException

from outlast.contracts.errors import OutlastError, RefusedError
from outlast.runtime import telemetry

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_DEGRADED = 3
EXIT_INTERRUPTED = 130


def run_command(app: typer.Typer) -> None:
    """
    Run *app* and exit with the code that its end deserves.
    """
    code = _run(app)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()  # whoever read it may be gone
    telemetry.end()
    os._exit(code)  # a client's threads may not survive the interpreter's teardown


def _run(app: typer.Typer) -> int:
    try:
        return app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except TyperException as error:
        print(f"error: {error.format_message()} (see --help)", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        return EXIT_FAILED
    except OutlastError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, RefusedError) else EXIT_BAD_INPUT
