"""
Where a call of an agent waits: the last line of the user's code that it has come to.
"""

import sys
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any

from outlast.agents.user_code import is_users
from outlast.execution.tracebacks import line_of

# How deep coroutines and frames are followed.
MAX_AWAIT_DEPTH = 200


def no_place() -> str:
    """
    Say where nothing waits.
    """
    return ""


def waits_at(call: Coroutine[Any, Any, None], thread: int | None) -> str:
    """
    Say at which line of the user's code *call* waits, or the thread with the identifier
    *thread* is; "" where none of it is seen.
    """
    frames = _of_thread(thread) if thread is not None else _of_call(call)
    users = [each for each in frames if is_users(each.f_code.co_filename)]
    return line_of(users[0].f_code, users[0].f_lineno) if users else ""


def _of_thread(thread: int) -> Iterator[FrameType]:
    """
    The frames of a thread, the innermost first.
    """
    frame = sys._current_frames().get(thread)
    for _ in range(MAX_AWAIT_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _of_call(call: Coroutine[Any, Any, None]) -> list[FrameType]:
    """
    The frames of the coroutines that *call* awaits, the innermost first.
    """
    found: list[FrameType] = []
    waits: Any = call
    while waits is not None and len(found) < MAX_AWAIT_DEPTH:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None:
            found.append(frame)
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return found[::-1]
