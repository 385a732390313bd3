"""
A store and a ledger that live as long as one test.
"""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from outlast.attempt.ledger import Ledger
from outlast.store.database import Store

# A loaded machine is slow, not wrong.
hypothesis.settings.register_profile("outlast", deadline=None)
hypothesis.settings.load_profile("outlast")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.db")
    yield made
    made.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)
