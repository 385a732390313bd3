"""
Threads for acts: each has its own, so that one that hangs takes no place from others.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """
    Call *function* in a thread of its own, within our context (spans, `current`).

    When cancelled, the thread runs on and its result is dropped: Python cannot end one.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            _settle(loop, ended, ended.set_result, context.run(function, *args))
        except BaseException as error:
            _settle(loop, ended, ended.set_exception, error)

    threading.Thread(target=work, name="act", daemon=True).start()
    return await ended


def _settle(
    loop: asyncio.AbstractEventLoop,
    ended: "asyncio.Future[Any]",
    settle: Callable[[Any], None],
    value: Any,
) -> None:
    def settle_if_awaited() -> None:
        if not ended.done():
            settle(value)

    with suppress(RuntimeError):  # the loop is closed: its process ends
        loop.call_soon_threadsafe(settle_if_awaited)
