"""
What an agent forks, by multiprocessing or os.fork, must not act as the worker.

It would answer SIGTERM by waking its parent's event loop instead of ending, and hold
the channel whose end tells of the worker's death, and the flight recorder's lock.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

DEFAULT_HANDLERS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}


def close_in_forked(channels: list[socket.socket], let_go: Callable[[], None]) -> None:
    """
    Have every process forked from this one close what is the worker's, before any of
    its own code runs. Handlers that an agent has set meanwhile stay.

    :param channels: to the worker's parent.
    :param let_go: closes what else is the worker's alone.
    """
    ours = {number: signal.getsignal(number) for number in DEFAULT_HANDLERS}
    unblocked = threading.local()

    def block() -> None:
        # A forked process that is ended at once would answer as the worker does: the
        # signal waits until it has handlers of its own.
        unblocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_HANDLERS)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked.mask)

    def release() -> None:
        try:
            signal.set_wakeup_fd(-1)
            for number, usual in DEFAULT_HANDLERS.items():
                # A hang-up that was ignored before us stays so: not ours.
                if ours[number] is signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, usual)
            for channel in channels:
                with contextlib.suppress(OSError):  # closed in the worker before
                    os.close(channel.detach())
            let_go()
        finally:
            unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=release)
