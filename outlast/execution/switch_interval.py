"""
How long a thread that computes keeps the interpreter from those that wait for it.

Whoever takes over from the dead asks the database first, a lease a dozen times, and
after each answer waits so long where another one computes: with the interpreter's own
5 ms that is 0.1 s and more. Shorter turns cost CPU, which is why they are for the
beginning of an attempt and for the length of a lease.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005

_inside = 0
_usual_s = 0.0


@contextmanager
def brisk() -> Iterator[None]:
    """
    Let the interpreter change hands often while in here, or another one is. For the
    event loop only.
    """
    global _inside, _usual_s  # noqa: PLW0603 - one interval for all of a process
    if not _inside:
        _usual_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        if not _inside:
            sys.setswitchinterval(_usual_s)
