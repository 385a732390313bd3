"""
An event loop that is not ended by what runs on it.

SystemExit and KeyboardInterrupt leave `asyncio.run` from whatever task they are raised
in: one agent that exits would end all of its neighbours.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger("outlast.process")

T = TypeVar("T")

# What is left when the main coroutine has ended has so long to hear of it.
LOOP_EXIT_S = 0.2


def run_until_done(main: Coroutine[Any, Any, T]) -> T:
    """
    Run *main* to its own end, entering the loop again whenever anything else ends it.

    A task that awaits one that has exited gets its exception all the same.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return _finish(loop, loop.create_task(main))
    finally:
        if left := asyncio.all_tasks(loop):
            for each in left:
                each.cancel()
            _finish(loop, loop.create_task(asyncio.wait(left, timeout=LOOP_EXIT_S)))
        asyncio.set_event_loop(None)
        loop.close()


def _finish(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[T]") -> T:
    while True:
        try:
            return loop.run_until_complete(main)
        except BaseException as end:
            if main.done():
                raise
            # RuntimeError: somebody has stopped the loop.
            logger.error(
                "loop.exited by %s in a task of an agent: only that task has ended",
                type(end).__name__,
                exc_info=None if isinstance(end, RuntimeError) else end,
            )
