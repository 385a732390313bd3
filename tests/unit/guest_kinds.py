"""
Agents that end in odd ways, by name: what users' code has been seen to do.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from outlast.agents.context import Context
from outlast.contracts.errors import GiveUp

Play = Callable[[Any, Context], Any]


class SuspendError(BaseException):
    """
    As durable frameworks and test runners have them.
    """


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class DeadlyToPrintError(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


async def _cancelled() -> None:
    helper = asyncio.create_task(asyncio.sleep(60))
    helper.cancel()  # a client that shuts its own reader down
    await helper


async def _cancels_itself() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()  # a broken cancel scope
    await asyncio.sleep(0)


async def _cancels_itself_too_late() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    raise ValueError("with a cancellation on its way")


async def _grouped(error: BaseException) -> None:
    async def tool() -> None:
        raise error

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())


async def _gathered(error: BaseException) -> None:
    await asyncio.gather(asyncio.sleep(60), _raise(error))


async def _raise(error: BaseException) -> None:
    raise error


async def _chained(depth: int) -> None:
    error: Exception = ValueError("the first of many")
    for _ in range(depth):
        try:
            raise RuntimeError("x" * 100_000) from error
        except RuntimeError as outer:
            error = outer
    raise error


def _cycle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _deeper(n: int) -> int:
    return _deeper(n + 1)


async def _recursion() -> None:
    _deeper(0)


# What ends an attempt as a failure of its own, and what the cause says.
ASYNC_FAILURES: dict[str, tuple[Callable[[], Awaitable[Any]], str]] = {
    "cancelled": (_cancelled, "CancelledError that Outlast did not ask for"),
    "cancels itself": (_cancels_itself, "CancelledError that Outlast did not ask for"),
    "cancels itself late": (_cancels_itself_too_late, "on its way"),
    "cancelled error": (
        lambda: _raise(asyncio.CancelledError()),
        "CancelledError that Outlast did not ask for",
    ),
    "keyboard": (lambda: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "exit": (lambda: _raise(SystemExit(3)), r"exit\(3\)"),
    "generator exit": (lambda: _raise(GeneratorExit("end")), "GeneratorExit: end"),
    "base": (lambda: _raise(SuspendError("stop here")), "SuspendError: stop here"),
    "stop": (lambda: _raise(StopAsyncIteration("end")), "StopAsyncIteration|end"),
    "group": (lambda: _grouped(ValueError("iban")), "^ValueError: iban|^iban"),
    "base group": (lambda: _grouped(SuspendError("deep")), "SuspendError: deep"),
    "gather": (lambda: _gathered(OSError("gone")), "gone"),
    "surrogate": (lambda: _raise(ValueError("caf\udce9")), r"caf\?"),
    "unprintable": (lambda: _raise(UnprintableError()), "message raises RuntimeError"),
    "deadly to print": (lambda: _raise(DeadlyToPrintError()), "raises SystemExit"),
    "megabytes": (lambda: _raise(ValueError("y" * 5_000_000)), "yyyy"),
    "chain": (lambda: _chained(50), "xxxx"),
    "cycle": (lambda: _raise(_cycle()), "first"),
    "recursion": (_recursion, "recursion"),
}

PLAIN_FAILURES: dict[str, tuple[BaseException, str]] = {
    "cancelled": (asyncio.CancelledError(), "CancelledError"),
    "keyboard": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "exit": (SystemExit(3), r"exit\(3\)"),
    "generator exit": (GeneratorExit("end"), "GeneratorExit: end"),
    "base": (SuspendError("stop here"), "SuspendError: stop here"),
    "stop": (StopIteration("end"), "StopIteration: end"),
    "group": (ExceptionGroup("tools", [ValueError("iban")]), "iban"),
    "surrogate": (ValueError("caf\udce9"), r"caf\?"),
    "unprintable": (UnprintableError(), "message raises RuntimeError"),
}

GROUPED_GIVE_UPS: dict[str, Callable[[], Awaitable[Any]]] = {
    "group": lambda: _grouped(GiveUp("no account")),
    "gather": lambda: _gathered(GiveUp("no account")),
    "nested": lambda: _raise(
        BaseExceptionGroup(
            "all",
            [
                ExceptionGroup("one", [ValueError("other"), GiveUp("no account")]),
                asyncio.CancelledError(),
            ],
        )
    ),
}


def failing(kind: str) -> Play:
    async def play(given: Any, ctx: Context) -> None:
        await ASYNC_FAILURES[kind][0]()

    return play


def failing_plainly(kind: str) -> Play:
    def play(given: Any, ctx: Context) -> None:
        raise PLAIN_FAILURES[kind][0]

    return play


# How agents lose what the context raises. Each calls *ask* and says what it would.


async def _swallowed(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await ask()
    except Exception as error:
        return f"tool failed: {error}"
    return "done"


async def _swallowed_base(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await ask()
    except BaseException as error:
        return f"tool failed: {error}"
    return "done"


async def _stubborn(ask: Callable[[], Awaitable[Any]]) -> str:
    while True:
        try:
            await ask()
        except Exception:
            continue


async def _in_a_group(ask: Callable[[], Awaitable[Any]]) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(_awaited(ask))
    return "done"


async def _in_a_swallowed_group(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await _in_a_group(ask)
    except* Exception:
        pass
    return "done"


async def _in_a_gather(ask: Callable[[], Awaitable[Any]]) -> str:
    said = await asyncio.gather(ask(), asyncio.sleep(0), return_exceptions=True)
    return str(said)


async def _wrapped(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await ask()
    except Exception as error:
        raise RuntimeError("the tool failed") from error
    return "done"


async def _forgotten(ask: Callable[[], Awaitable[Any]]) -> str:
    task = asyncio.create_task(_awaited(ask))
    await asyncio.wait([task])
    return "done"


async def _awaited(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


SWALLOWERS: dict[str, Callable[[Callable[[], Awaitable[Any]]], Awaitable[str]]] = {
    "except Exception": _swallowed,
    "except BaseException": _swallowed_base,
    "asks for ever": _stubborn,
    "TaskGroup": _in_a_group,
    "except* Exception": _in_a_swallowed_group,
    "gather": _in_a_gather,
    "wrapped": _wrapped,
    "a task it forgot": _forgotten,
}


class Held:
    """
    An event that threads wait for, set at the end of the test.
    """

    def __init__(self) -> None:
        self.free = threading.Event()
        self.ended = threading.Event()

    def plain(self, given: Any, ctx: Context) -> None:
        self.free.wait(20)
        self.ended.set()

    async def swallowing(self, given: Any, ctx: Context) -> None:
        while not self.free.is_set():
            try:
                await asyncio.sleep(0.02)
            except BaseException:  # a retry decorator
                continue
        self.ended.set()
