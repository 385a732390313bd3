"""
The order of attempts at a task: by numbers that only grow, never by a clock.

First the run of the workflow, as the ledger numbers runs; then the dispatch, which the
workflow counts in its own state; then the attempt, which the server counts. A reset
takes the workflow's state back, and is another run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Of a fence's 63 bits: 4,095 attempts of 1,073,741,823 dispatches of 2,097,151 runs.
ATTEMPT_BITS = 12
DISPATCH_BITS = 30
ATTEMPTS = (1 << ATTEMPT_BITS) - 1
DISPATCHES = (1 << DISPATCH_BITS) - 1


@dataclass(frozen=True)
class AttemptOrder:
    """
    Where an attempt comes in the order: in *run*, a run of the workflow, by *dispatch*
    and *attempt*.

    :param current_run: asks the server which run of the workflow is under way; None
        when none is.
    """

    run: str
    dispatch: int
    attempt: int
    current_run: Callable[[], Awaitable[str | None]]

    def fence(self, number: int) -> int:
        """
        Put the order into one integer, where the run has *number*.

        What has grown past its bits comes no later than the last that fits.
        """
        dispatch = min(self.dispatch, DISPATCHES)
        attempt = min(self.attempt, ATTEMPTS)
        return (number << DISPATCH_BITS | dispatch) << ATTEMPT_BITS | attempt


def is_last_of_run(fence: int, number: int) -> bool:
    """
    Whether no dispatch of the run with *number* can come after *fence*.
    """
    return run_of(fence) > number or dispatch_of(fence) == DISPATCHES


def run_of(fence: int) -> int:
    return max(fence, 0) >> DISPATCH_BITS + ATTEMPT_BITS


def dispatch_of(fence: int) -> int:
    return max(fence, 0) >> ATTEMPT_BITS & DISPATCHES
