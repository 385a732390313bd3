"""
The one way in which the store waits in a thread for what will be over soon.

Not by stamina: see docs/decisions/0023-retries-without-stamina.md.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def retry(
    act: Callable[[], T],
    passes: Callable[[Exception], bool],
    limit_s: float,
    pause_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """
    Do *act*, and again after *pause_s* for as long as its error *passes* by itself, for
    *limit_s* at most.
    """
    deadline = clock() + limit_s
    while True:
        try:
            return act()
        except Exception as error:
            if not passes(error) or clock() >= deadline:
                raise
        time.sleep(pause_s)
