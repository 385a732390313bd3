"""
The traceback of what an agent raised: bounded, without secrets, and its last line in
the user's own code; and the line at which a call of an agent waits.

Agents raise anything: megabytes, groups, chains that hold themselves, values that
cannot be printed. None of it may keep a failure from being told.
"""

import gc
import linecache
import sys
import traceback
from collections.abc import Coroutine, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from outlast.agents.user_code import is_ours, is_users
from outlast.contracts.errors import AgentExitedError, OutlastError
from outlast.contracts.text import CAUSE_CHARS, one_line, visible
from outlast.secrets import masked, masked_head

# What the ledger keeps of one traceback, and the log shows: the innermost frames.
MAX_TRACEBACK_BYTES = 8 * 1024
MAX_FRAMES = 40
TRACEBACK_PART_CHARS = 1000  # of a message, or of a line of code
PLACE_CHARS = 120
CODE_CHARS = 60
TRACEBACK_LEFT_OUT = "[... what came before is left out]\n"

# How deep coroutines and frames are followed.
MAX_AWAIT_DEPTH = 200


class Traceback(NamedTuple):
    """
    Where an error came from.

    :param text: its traceback, as Python prints it.
    :param place: the last line of the user's code in it, as in
        `agents.py:14 in refund: requests.get(url)`; "" when there is none.
    """

    text: str
    place: str = ""


def traceback_of(error: BaseException) -> Traceback:
    try:
        return Traceback(_text(error), place_of(error))
    except Exception as worse:  # it is the agent's error, which may do anything
        return Traceback(f"its traceback raises {type(worse).__name__}")


def place_of(error: BaseException) -> str:
    """
    Find the last line of the user's own code that *error* went through, or, where it
    has been in none, the error that it was raised from.
    """
    seen: set[int] = set()
    told: BaseException | None = error
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        frames = list(_frames(told.__traceback__))
        mine = [each for each in frames if is_users(each[0].co_filename)]
        if not mine:  # agents that are installed as a library: the function itself
            mine = [each for each in frames[:1] if "/" in each[0].co_filename]
        if mine:
            return line_of(*mine[-1])
        told = told.__cause__ or told.__context__
    return ""


def describe_failure(error: Exception, cause: str) -> tuple[str, str]:
    """
    Put the place of *error* beside its *cause*, and read its traceback. Our own errors
    are sentences for their reader, and need no place.
    """
    exited = isinstance(error, AgentExitedError)
    # What an agent really did that exited is the cause.
    trace = traceback_of((exited and error.__cause__) or error)
    if isinstance(error, OutlastError) and not exited:
        return cause, trace.text if trace.place else ""
    if trace.place:  # the cause makes room for it
        cause = one_line(cause, CAUSE_CHARS - len(trace.place) - 3)
        cause = f"{cause} ({trace.place})"
    return cause, trace.text


def _frames(began: TracebackType | None) -> Iterator[tuple[CodeType, int]]:
    for frame, line in traceback.walk_tb(_first_of_agent(began)):
        yield frame.f_code, line or 0


def _first_of_agent(began: TracebackType | None) -> TracebackType | None:
    while began is not None and is_ours(began.tb_frame.f_code.co_filename):
        began = began.tb_next
    return began


def line_of(code: CodeType, line: int) -> str:
    name = code.co_filename.rsplit("/", 1)[-1]
    text = masked(linecache.getline(code.co_filename, line), CODE_CHARS)
    place = f"{name}:{line} in {code.co_name}{f': {text}' if text else ''}"
    return one_line(place, PLACE_CHARS)


def _text(error: BaseException) -> str:
    began = _first_of_agent(error.__traceback__) or error.__traceback__
    try:
        told = traceback.TracebackException(
            type(error),
            error,
            began,
            limit=-MAX_FRAMES,
            max_group_width=5,
            max_group_depth=3,
        )
        parts = list(told.format())
    except Exception:
        parts = [*traceback.format_tb(began, limit=-MAX_FRAMES), type(error).__name__]
    return _bounded([_cut(visible(masked_head(each))) for each in parts])


def _cut(part: str) -> str:
    most = TRACEBACK_PART_CHARS
    return part if len(part) <= most else f"{part[:most]} [...]\n"


def _bounded(parts: list[str]) -> str:
    room = MAX_TRACEBACK_BYTES - len(TRACEBACK_LEFT_OUT)
    for at in range(len(parts) - 1, -1, -1):
        room -= len(parts[at].encode())
        if room < 0:
            return TRACEBACK_LEFT_OUT + "".join(parts[at + 1 :])
    return "".join(parts)


def no_place() -> str:
    return ""


def waits_at(call: Coroutine[Any, Any, None], thread: int | None) -> str:
    """
    Say at which line of the user's code *call* waits, or the thread with the identifier
    *thread* is; "" where none of it is seen.
    """
    frames = _of_thread(thread) if thread is not None else _of_call(call)
    users = [each for each in frames if is_users(each.f_code.co_filename)]
    return line_of(users[0].f_code, users[0].f_lineno) if users else ""


def frame_of_thread(thread: int) -> FrameType | None:
    """
    Find the frame that the thread with the identifier *thread* is in.

    The garbage collector must not run meanwhile: within `sys._current_frames` it waits
    for ever for a lock that its own thread holds, and nothing of the process runs any
    more (CPython before 3.12.1, gh-106883).
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread)
    finally:
        if collecting:
            gc.enable()


def _of_thread(thread: int) -> Iterator[FrameType]:
    frame = frame_of_thread(thread)
    for _ in range(MAX_AWAIT_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _of_call(call: Coroutine[Any, Any, None]) -> list[FrameType]:
    found: list[FrameType] = []
    waits: Any = call
    while waits is not None and len(found) < MAX_AWAIT_DEPTH:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None:
            found.append(frame)
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return found[::-1]
