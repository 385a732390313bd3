"""
Values so large that to look at all their parts would hold the event loop, which the
watchdog ends after seconds: they are written in a thread.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from outlast.execution.codec import SlowCheckError

T = TypeVar("T")


async def off_loop(write: Callable[..., T], *args: Any) -> T:
    """
    Return write(True, *args), which raises SlowCheckError where that is not quickly
    done: then it is called in a thread, to take its time.
    """
    try:
        return write(True, *args)
    except SlowCheckError:
        pass  # what is raised below has nothing to do with it
    return await asyncio.to_thread(write, False, *args)
