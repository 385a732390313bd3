"""
What a worker process says by its exit code.
"""

import pytest

from outlast.contracts.errors import (
    BadInputError,
    NewerStateError,
    OutlastError,
    StoreAwayError,
    StoreError,
)
from outlast.fleet.child import BAD_INPUT, code_of


def test_bad_input_is_not_tried_again() -> None:
    """
    Its code makes the parent give up at once.
    """
    assert code_of(BadInputError("no such role")) == BAD_INPUT


@pytest.mark.parametrize("kind", [StoreError, StoreAwayError, NewerStateError])
def test_all_else_is_left_to_the_budget(kind: type[OutlastError]) -> None:
    """
    What may be over the next time must not end the fleet at the first.
    """
    assert code_of(kind("away")) == 1
