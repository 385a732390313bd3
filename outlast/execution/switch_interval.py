"""
How long a thread that computes keeps the interpreter from those that wait for it.

An attempt after a crash asks the database first, a lease a dozen times, and after each
answer waits so long where another one computes: with the interpreter's own 5 ms that is
0.1 s and more. Shorter turns cost CPU, so they are for the beginning of an attempt and
for the length of a lease.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_SWITCH_S = 0.0005

_entered = 0
_usual_s = 0.0


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """
    Have threads take short turns within this context, and as long as another one of
    its kind lasts. For the event loop only.
    """
    global _entered, _usual_s  # noqa: PLW0603 - one interval for all of a process
    if not _entered:
        _usual_s = sys.getswitchinterval()
        sys.setswitchinterval(SHORT_SWITCH_S)
    _entered += 1
    try:
        yield
    finally:
        _entered -= 1
        if not _entered:
            sys.setswitchinterval(_usual_s)
