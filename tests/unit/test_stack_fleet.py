"""
What follows a fleet of the embedded stack that has ended.
"""

import pytest

from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.dev.stack_fleet import FleetEnd, FleetStart, NextFleet, after_fleet
from outlast.dev.stack_state import FleetLine

READY = FleetLine(ready=True, health="http://127.0.0.1:1")
FIRST, RELOADED, KILLED = FleetStart.FIRST, FleetStart.RELOADED, FleetStart.KILLED


@pytest.mark.parametrize(
    ("end", "start", "changed", "then"),
    [
        (FleetEnd(0, READY), FIRST, False, NextFleet.NONE),
        (FleetEnd(1, READY), RELOADED, False, NextFleet.NONE),
        (FleetEnd(-9, READY), FIRST, False, NextFleet.RESTART),
        (FleetEnd(0, READY), FIRST, True, NextFleet.RELOAD),
        (FleetEnd(-9, READY), KILLED, True, NextFleet.RELOAD),
        (FleetEnd(-9), FIRST, False, NextFleet.FAIL),
        (FleetEnd(-9), KILLED, False, NextFleet.RESTART),
        (FleetEnd(2), KILLED, False, NextFleet.FAIL),
        (FleetEnd(2), FIRST, True, NextFleet.FAIL),
        (FleetEnd(2), RELOADED, False, NextFleet.AWAIT_CHANGE),
        (FleetEnd(-9), RELOADED, False, NextFleet.AWAIT_CHANGE),
    ],
)
def test_a_fleet_is_replaced_where_that_can_help(
    end: FleetEnd, start: FleetStart, changed: bool, then: NextFleet
) -> None:
    """
    One that was killed, or whose agents have changed; what has not become ready would
    fail again.
    """
    assert after_fleet(end, start, changed=changed, stopping=False) is then
    ended = after_fleet(end, start, changed=changed, stopping=True)
    assert ended is NextFleet.NONE


def test_a_fleet_that_cannot_start_says_why() -> None:
    """
    What its user can mend is bad input, all else is not.
    """
    refused = FleetEnd(2, FleetLine(ready=False, refused="no agents.py")).failure
    assert (type(refused), str(refused)) == (BadInputError, "no agents.py")
    failed = FleetEnd(1, FleetLine(ready=False, failed="it crashes")).failure
    assert isinstance(failed, UnavailableError)
    assert "it crashes" in str(failed)
    assert "exit code 70" in str(FleetEnd(70).failure)
