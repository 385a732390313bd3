"""
What an agent forks, by multiprocessing or os.fork, is no worker.

It would answer SIGTERM by waking its parent's event loop instead of ending, hold the
channel whose end is the worker's death, and the lock of the flight recorder.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

USUAL: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


def release_in_forked(
    channels: list[socket.socket], let_go: Callable[[], None]
) -> None:
    """
    Have every process forked from this one give up what is the worker's, before any
    of its own code runs. Handlers that an agent has set meanwhile stay.

    :param channels: to the worker's parent.
    :param let_go: closes what else is the worker's alone.
    """
    ours = {number: signal.getsignal(number) for number in USUAL}

    def release() -> None:
        signal.set_wakeup_fd(-1)
        for number, usual in USUAL.items():
            if signal.getsignal(number) is ours[number]:
                signal.signal(number, usual)
        for channel in channels:
            with contextlib.suppress(OSError):  # closed in the worker before
                os.close(channel.detach())
        let_go()

    os.register_at_fork(after_in_child=release)
