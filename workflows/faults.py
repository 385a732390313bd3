"""
Faults of our own in a workflow: it ends as failed, with its cause.

A workflow task that raises is tried again for ever, which looks like silence.
"""

from collections.abc import Sequence

from outlast.contracts.errors import BadInputError
from outlast.contracts.text import CAUSE_CHARS, one_line

# What Python raises where code is wrong, and our own words on input that is. They fail
# the workflow, or the update, instead of its task. Not among them is what another
# worker may do better: state of a newer release, a history that replays otherwise.
# RuntimeError is not, because the SDK wraps the former in one.
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
    Say what a fault of ours has ended, and what to do.
    """
    told = one_line(f"{type(error).__name__}: {error}", CAUSE_CHARS // 2)
    return (
        f"Outlast's own bookkeeping failed ({told}); what was done is kept: report it "
        "with the fleet's log, then redrive the mission"
    )
