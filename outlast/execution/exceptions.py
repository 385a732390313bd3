"""
How an agent's end is read: which of several errors decides, and in what words.

Agents may raise anything: groups, what is no Exception, what cannot be printed.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from outlast.contracts.errors import (
    AgentExitedError,
    ApprovalNeededError,
    BudgetExceededError,
    CircuitOpenError,
    GiveUp,
    ParkedError,
    RefusedError,
    StoreLostError,
    StoreUnavailableError,
    TryLater,
)
from outlast.contracts.text import CAUSE_CHARS
from outlast.secrets import masked

# The store's trouble, which is counted against no attempt and no item.
UNCOUNTED_ERRORS = (StoreUnavailableError, StoreLostError)

# Of the errors in a group the one that comes first here decides; of several of a kind
# the one that was raised first. A cancellation there is the echo of another error.
PRECEDENCE: tuple[type[BaseException] | tuple[type[BaseException], ...], ...] = (
    RefusedError,
    UNCOUNTED_ERRORS,
    (BudgetExceededError, ApprovalNeededError),
    (GiveUp, CircuitOpenError),
    ParkedError,
    TryLater,
)
# No other attempt would change them.
FINAL_ERRORS = (GiveUp, ParkedError, CircuitOpenError)
FAILURE, CANCELLATION = len(PRECEDENCE), len(PRECEDENCE) + 1


def cause_of(error: BaseException) -> BaseException:
    """
    Return the error that decides: *error* itself, or one within a group, however deep.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min(_leaf_errors(error), key=_rank, default=error)


def failure_of(error: BaseException) -> Exception:
    """
    Make *error* a failure of its attempt alone, whatever was raised.
    """
    cause = cause_of(error)
    # A StopIteration can be carried by no future and leaves no coroutine.
    if isinstance(cause, Exception) and not isinstance(cause, StopIteration):
        return cause
    failure = AgentExitedError(_error_line(cause))
    failure.__cause__ = cause
    return failure


def _error_line(error: BaseException) -> str:
    said = message_of(error)
    if isinstance(error, SystemExit):
        return f"the agent called exit({said})"
    if isinstance(error, asyncio.CancelledError):
        return (
            "the agent ended by a CancelledError that Outlast did not ask for, as when "
            "a library cancels a task of its own: catch it, or raise another error"
        )
    return f"the agent raised {type(error).__name__}{f': {said}' if said else ''}"


def call_converting_exits(act: Callable[..., Any], *args: Any) -> Any:
    """
    Call *act* in a thread; what no future can carry becomes a failure like any other.
    """
    try:
        return act(*args)
    except BaseException as error:
        failure = failure_of(error)
        raise failure from failure.__cause__


def error_text(error: BaseException) -> str:
    return masked(f"{type(error).__name__}: {message_of(error)}", CAUSE_CHARS)


def message_of(error: BaseException) -> str:
    """
    Read the message of *error*, also of one that cannot even be printed.
    """
    try:
        return masked(str(error), CAUSE_CHARS)
    except BaseException as worse:  # it is the agent's code, which may raise anything
        return f"its message raises {type(worse).__name__}"


def _leaf_errors(group: BaseException) -> Iterator[BaseException]:
    """
    Walk through all that is in *group*, in order; one that holds itself ends too.
    """
    left, seen = [group], set[int]()
    while left:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            left.extend(reversed(error.exceptions))
        else:
            yield error


def _rank(error: BaseException) -> int:
    for rank, kinds in enumerate(PRECEDENCE):
        if isinstance(error, kinds):
            return rank
    return CANCELLATION if isinstance(error, asyncio.CancelledError) else FAILURE
