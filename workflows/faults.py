"""
Faults in Outlast's own workflow code: the workflow fails and names the cause.

A workflow task that raises is retried for ever, and nobody sees why.
"""

from collections.abc import Sequence

from outlast.contracts.errors import BadInputError
from outlast.contracts.text import CAUSE_CHARS, one_line

# Errors that Python raises where code is wrong, and our own errors about input. They
# fail the workflow or the update, not its workflow task. Left out are errors that
# another worker may not have: state of a newer release, a history that replays
# differently. RuntimeError is left out because the SDK wraps the latter in one.
FAULTS: Sequence[type[BaseException]] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadInputError,
    LookupError,
    NameError,
    RecursionError,
    TypeError,
    ValueError,
)


def cause_of(error: Exception) -> str:
    """
    Name the fault that has ended a workflow, and what to do.
    """
    told = one_line(f"{type(error).__name__}: {error}", CAUSE_CHARS // 2)
    return (
        f"Outlast's own bookkeeping failed ({told}); what was done is kept: report it "
        "with the fleet's log, then redrive the mission"
    )
