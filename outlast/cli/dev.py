"""
Run the embedded stack for a person or a program, until Ctrl-C.
"""

import asyncio
import json
from collections.abc import Callable

from outlast.contracts.errors import BadInputError
from outlast.dev.stack_state import StackReady
from outlast.settings import settings

MAX_PROCESSES = 64


def run_dev(
    port: int | None,
    ui_port: int | None,
    processes: int | None,
    as_json: bool,
    until_unused: bool,
) -> int:
    """
    Run the stack of this home to its end; returns its exit code.

    :raises BadInputError: when it cannot be started as asked.
    """
    from outlast.dev.stack import Stack

    require_processes(processes)
    stack = Stack(settings(), port, ui_port, processes, until_unused)
    stack.reloads = not until_unused  # a stack started for a command is not developed
    return asyncio.run(stack.run(announcer(as_json)))


def require_processes(processes: int | None) -> None:
    """
    :raises BadInputError: when so many processes cannot be started.
    """
    if processes is not None and not 1 <= processes <= MAX_PROCESSES:
        raise BadInputError(
            f"--processes {processes} is not between 1 and {MAX_PROCESSES}: choose "
            "another number"
        )


def announcer(as_json: bool) -> Callable[[StackReady], None]:
    return _print_json if as_json else print_ready


def _print_json(line: StackReady) -> None:
    print_json_line(line.model_dump(exclude_none=True))


def print_json_line(value: object) -> None:
    print(json.dumps(value), flush=True)


def print_ready(line: StackReady) -> None:
    print(f"Temporal   {line.address}")
    print(f"Web UI     {line.ui}")
    if line.peer is not None:
        print(f"peer       {line.peer} at {line.mesh}")
    print(f"health     {line.health}")
    for worker in line.workers:
        print(f"worker     {worker.kind} {worker.pid}")
    print("Ctrl-C stops them; missions are kept.", flush=True)
