"""
How long a thread that computes keeps the interpreter from those that wait for it.

A lease begins with a dozen calls of the database, and after each it waits so long where
another one computes: with the interpreter's own 5 ms that is 0.1 s and more. Shorter
turns cost CPU, which is why they last no longer than a lease does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
USUAL_S = sys.getswitchinterval()

_leases = 0


@contextmanager
def brisk() -> Iterator[None]:
    """
    Let the interpreter change hands often while in here, or another one is. For the
    event loop only.
    """
    global _leases  # noqa: PLW0603 - one interval for all of a process
    _leases += 1
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        _leases -= 1
        if not _leases:
            sys.setswitchinterval(USUAL_S)
