"""
The coroutines that a context hands out, and those of them that nobody awaits.

`ctx.save(x)` without `await` does nothing, and Python says so in a warning that nobody
reads: here it ends the attempt.
"""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import AsyncGeneratorType, CodeType, GeneratorType
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from outlast.agents.agent_function import place
from outlast.contracts.errors import GiveUp, UnawaitedError

P = ParamSpec("P")
T = TypeVar("T")

# So many are kept before those that have begun are let go: an attempt makes millions.
MAX_PENDING_CALLS = 32
# The context of a trial, which calls ours for the agent.
FINDINGS_MODULE = "outlast.execution.findings"


class PendingCall(NamedTuple):
    """
    A coroutine, and where it was asked for.
    """

    awaitable: Any  # a CoroutineType, which cannot be written so at run time
    code: CodeType
    line: int


class PendingCalls:
    """
    The coroutines of one attempt that may not have begun. Any thread may note one.
    """

    def __init__(self) -> None:
        self._made: list[PendingCall] = []
        self._most = MAX_PENDING_CALLS

    def add(
        self, coroutine: Coroutine[Any, Any, Any], code: CodeType, line: int
    ) -> None:
        self._made.append(PendingCall(coroutine, code, line))
        if len(self._made) > self._most:
            self._made = self._waiting()
            # Twice what is left: a large `gather` must not be looked through for each.
            self._most = max(MAX_PENDING_CALLS, 2 * len(self._made))

    @property
    def any_made(self) -> bool:
        return bool(self._made)

    async def require_awaited(self) -> None:
        """
        Make sure that all of them have begun by the attempt's end.

        :raises UnawaitedError: naming the first one that has not, and its line.
        """
        if self._made and self._waiting():
            await asyncio.sleep(0)  # those of tasks that were just made begin now
        forgotten = self._waiting()
        for each in forgotten:
            each.awaitable.close()
        if forgotten:
            first = forgotten[0]
            called = f"ctx.{first.awaitable.__name__}(...)"
            where = place(first.code.co_filename, first.line)
            raise UnawaitedError(
                f"{called} was never awaited ({where}) and did nothing: write "
                f"`await {called}`, in a plain function `ctx.run_sync({called})`"
            )

    def _waiting(self) -> list[PendingCall]:
        created = inspect.CORO_CREATED
        return [
            each
            for each in self._made
            if inspect.getcoroutinestate(each.awaitable) == created
        ]


_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})


def tracked(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """
    Note each call of an async *method* in its object's `pending_calls`.
    """

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        coroutine = method(self, *args, **kwargs)
        caller = sys._getframe(1)
        while caller.f_back and caller.f_globals.get("__name__") == FINDINGS_MODULE:
            caller = caller.f_back
        self.pending_calls.add(coroutine, caller.f_code, caller.f_lineno)
        return coroutine

    # From Python 3.12 on it can still be told that it is async.
    mark = getattr(inspect, "markcoroutinefunction", lambda function: function)
    marked: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]] = mark(call)
    return marked


def is_returned(value: Any, pending_calls: PendingCalls) -> bool:
    """
    True if `await_returned` would return *value* as it is.
    """
    return type(value) in _PLAIN and not pending_calls.any_made


async def await_returned(value: Any, pending_calls: PendingCalls) -> Any:
    """
    Take what an agent's function returned: a coroutine of a function that does not look
    async is awaited here.

    :raises GiveUp: when it is a generator, which nobody would run.
    :raises UnawaitedError: when a call of the context was forgotten.
    """
    while _is_awaitable(value):
        value = await value
    if isinstance(value, GeneratorType | AsyncGeneratorType):
        raise GiveUp(
            f"it returned {type(value).__name__.replace('_', ' ')}, which nothing has "
            "run: return a list of what it yields"
        )
    if pending_calls.any_made:
        await pending_calls.require_awaited()
    return value


def _is_awaitable(value: Any) -> bool:
    # As `inspect.isawaitable`, which is slow for the many values that are not.
    kind = type(value)
    return hasattr(kind, "__await__") or (
        kind is GeneratorType and inspect.isawaitable(value)
    )
