"""
The signals that end a process in good order: SIGTERM, Ctrl-C, and SIGHUP, which the
terminal sends to all that it started when it is closed.

A hang-up that was ignored before we started stays ignored, as `nohup` wants it, for us
and for what agents start.
"""

import asyncio
import signal
from collections.abc import Callable

END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
STOP_SIGNALS = (signal.SIGINT, *END_SIGNALS)


def on_stop(
    act: Callable[[], object], numbers: tuple[signal.Signals, ...] = STOP_SIGNALS
) -> None:
    loop = asyncio.get_running_loop()
    for number in numbers:
        if number is not signal.SIGHUP or not is_ignored(number):
            loop.add_signal_handler(number, act)


def ignore_hangup() -> None:
    """
    Leave it to the parent to end this process when the terminal is closed. Not by
    ignoring the signal, which what an agent starts would inherit.
    """
    if not is_ignored(signal.SIGHUP):
        signal.signal(signal.SIGHUP, lambda *_: None)


def is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
