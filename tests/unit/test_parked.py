"""
What the starter says of batches that nobody works on.
"""

import pytest

from outlast.cli.parked import open_batches, unplayed_batches
from outlast.contracts.pool import Batch
from outlast.store.batches import Batches
from outlast.store.database import Store


@pytest.fixture
def batches(store: Store) -> Batches:
    made = Batches(store)
    for name, role in (("m#t", "count"), ("m#u", "read"), ("mm#t", "count")):
        made.open(Batch(id=name, role=role))
    return made


def test_a_batch_whose_agent_nobody_plays_waits(batches: Batches) -> None:
    """
    Its task stands on the board as running, so this is where it shows.
    """
    found = unplayed_batches(open_batches(batches, None), {"read"})
    assert {each.mission for each in found} == {"m#t", "mm#t"}
    assert {each.waits for each in found} == {"count: no live worker takes its items"}
    assert unplayed_batches(open_batches(batches, None), {"read", "count"}) == []


def test_asked_for_one_mission_its_batches_are_told(batches: Batches) -> None:
    """
    As long as they are open.
    """
    assert {each.id for each in open_batches(batches, "m")} == {"m#t", "m#u"}
    batches.seal("m#t")
    batches.close("m#t", cancelled=True)
    assert {each.id for each in open_batches(batches, "m")} == {"m#u"}
