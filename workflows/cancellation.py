"""
Cancellation: asyncio delivers it once, at whatever is awaited then.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from temporalio import workflow


def is_cancelling() -> bool:
    """
    True if the current task has a pending cancellation: asyncio delivers it only once,
    and what the task awaited may have ended otherwise, or have raised the same error
    for a limit of its own.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def raise_if_cancelling() -> None:
    """
    Raise a cancellation that was delivered while something else was raised or returned.
    """
    if is_cancelling():
        raise asyncio.CancelledError


async def await_uncancelled(
    writing: workflow.ActivityHandle[Any], on_cancel: Callable[[], None] | None = None
) -> bool:
    """
    Wait until *writing* has ended, however often its task is cancelled meanwhile;
    returns whether it was. *on_cancel* is called at once.
    """
    cancelled = False
    while not writing.done():
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            cancelled = True
            if on_cancel is not None:
                on_cancel()
    writing.result()
    return cancelled
