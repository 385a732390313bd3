"""
The process's edge: every error becomes one sentence and an exit code.

    0 finished   1 failed or dead-lettered   2 bad input or nothing there to use
    3 degraded, with --strict                130 interrupted
"""

import sys

import typer

from outlast.contracts.errors import OutlastError, RefusedError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_DEGRADED = 3
EXIT_INTERRUPTED = 130


def run_command(app: typer.Typer) -> None:
    """
    Run *app* and exit with the code that its end deserves.
    """
    sys.exit(_run(app))


def _run(app: typer.Typer) -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except OutlastError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, RefusedError) else EXIT_BAD_INPUT
    return 0
