"""
Run foreign code at import so that the process is afterwards as it was before.

Restored are the current folder, standard output and input, the signal handlers that
our processes live by, the root logger's handlers, warnings made errors, and the event
loop that runs here. A thread that is not the main one restores only what is its own
to change: signals and file descriptors belong to the whole process.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from types import FrameType
from typing import Any, NoReturn

# What a worker, its fork server or the starter set, and a module may not keep.
CONTAINED_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
]


class AgentExit(BaseException):
    """
    The code has called os._exit.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class AgentInterrupt(KeyboardInterrupt):
    """
    A person has pressed Ctrl-C; a KeyboardInterrupt of another kind is the code's own.
    """


class TimeLimitError(BaseException):
    """
    The code has not ended within its time. No Exception, which it might catch.
    """


@contextmanager
def contained(limit_s: float) -> Iterator[None]:
    """
    Run what is within, *limit_s* at most, and put the process back.

    :raises TimeLimitError: past that, where it can be interrupted.
    :raises AgentExit: when it calls os._exit.
    """
    with ExitStack() as kept:
        kept.enter_context(chdir(os.getcwd()))
        for keep in (_loop, _root_logger, _error_filters, _no_exit):
            kept.enter_context(keep())
        if threading.current_thread() is threading.main_thread():
            kept.enter_context(_streams())
            kept.enter_context(_signals(limit_s))
        yield


@contextmanager
def _loop() -> Iterator[None]:
    """
    Hide the event loop that runs here: `asyncio.run` works as in a script.
    """
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)


@contextmanager
def _root_logger() -> Iterator[None]:
    """
    Let `logging.basicConfig` work, and keep our handlers: those that it adds for the
    console would show every line twice.
    """
    root = logging.getLogger()
    ours, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        theirs = [each for each in root.handlers if not _is_console(each)]
        if not theirs:
            root.setLevel(level)
        elif root.level != level:
            for each in ours:  # what ours showed, they go on to show, and no more
                each.setLevel(max(each.level, level))
        root.handlers[:] = [*ours, *theirs]
        _enable_our_loggers()


def _enable_our_loggers() -> None:
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("outlast") and isinstance(logger, logging.Logger):
            logger.disabled = False


def _is_console(handler: logging.Handler) -> bool:
    plain = type(handler) is logging.StreamHandler
    return plain and handler.stream in (  # type: ignore[attr-defined]
        *(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__),
    )


@contextmanager
def _error_filters() -> Iterator[None]:
    """
    Warnings that the code makes errors would be errors in our own code, too.
    """
    before = list(warnings.filters)
    try:
        yield
    finally:
        added = [each for each in warnings.filters if each not in before]
        for each in added:
            if each[0] == "error":
                warnings.filters.remove(each)  # type: ignore[attr-defined]
        warnings._filters_mutated()  # type: ignore[attr-defined]


@contextmanager
def _no_exit() -> Iterator[None]:
    """
    Refuse os._exit here, not in processes that the code forks.
    """
    real, pid, over = os._exit, os.getpid(), False

    def refuse(code: int = 0) -> NoReturn:
        if over or os.getpid() != pid:
            real(code)
        raise AgentExit(code)

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        over = True
        os._exit = real


@contextmanager
def _streams() -> Iterator[None]:
    """
    Give standard error for standard output, and an empty standard input.
    """
    stdout, stdin = sys.stdout, sys.stdin
    if stdout is None:  # it was closed before we started
        yield
        return
    empty = open(os.devnull)  # noqa: SIM115
    stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    sys.stdout, sys.stdin = sys.stderr, empty
    try:
        yield
    finally:
        stdout.flush()  # what was written through another name for it
        os.dup2(saved, 1)
        os.close(saved)
        sys.stdout, sys.stdin = stdout, stdin
        empty.close()


@contextmanager
def _signals(limit_s: float) -> Iterator[None]:
    """
    Interrupt the code after its time, and give it none of our handlers to keep.
    """
    before = {number: signal.getsignal(number) for number in CONTAINED_SIGNALS}
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    alarm = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _restore_signals({**before, signal.SIGALRM: alarm})
        signal.set_wakeup_fd(woken)


def _restore_signals(handlers: dict[Any, Callable[..., Any] | int | None]) -> None:
    for number, handler in handlers.items():
        # None was not set from Python, and cannot be.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise AgentInterrupt


def _too_long(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeLimitError
