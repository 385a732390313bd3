"""
What another client of Temporal does to missions at work, on real processes.
"""

import asyncio

import pytest

from testkit.other_clients import WEIGHTS, drill
from testkit.processes import Home

SEED = 20


@pytest.mark.timeout(120)
def test_missions_survive_what_another_client_does(home: Home) -> None:
    """
    A few dozen random operations over six missions: nothing is wedged, and the store
    says what the server has.
    """
    home.fleet(processes=2)
    made = asyncio.run(drill(home, SEED, operations=60, missions=6))
    assert made.violations() == []
    assert sum(made.fired.values()) >= len(WEIGHTS)
