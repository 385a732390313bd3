"""
Threads for plain agents and acts: each has its own for as long as it lasts, so that one
that hangs takes no place from others.
"""

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

IDLE_THREAD_S = 5.0


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
            _set_result(loop, ended, ended.set_result, context.run(function, *args))
        except BaseException as error:
            _set_result(loop, ended, ended.set_exception, error)

    _hand_over(work)
    return await ended


class _ReusableThread(threading.Thread):
    """
    A thread that waits a while for more work after its first: starting one costs
    0.1 ms, as much as a small item of a batch.
    """

    def __init__(self) -> None:
        super().__init__(name="act", daemon=True)
        self.work: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def run(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # it holds what the agent was given
            _idle_threads.append(self)

    def _next(self) -> Callable[[], None] | None:
        try:
            return self.work.get(timeout=IDLE_THREAD_S)
        except Empty:
            try:
                _idle_threads.remove(self)
            except ValueError:  # somebody has just taken it
                return self.work.get()
            return None


# The threads of this process that have nothing to do; what hangs is not among them.
# Each operation on a deque is atomic. A forked process has none of the threads.
_idle_threads: deque[_ReusableThread] = deque()
os.register_at_fork(after_in_child=_idle_threads.clear)


def _hand_over(work: Callable[[], None]) -> None:
    try:
        worker = _idle_threads.pop()
    except IndexError:
        worker = _ReusableThread()
        worker.start()
    worker.work.put(work)


def _set_result(
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
