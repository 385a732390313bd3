"""
A commit whose answer was lost on the way: the call is made again, and what stands is
not done twice.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from unit_fakes import ROLE, Stage, assignment

from outlast import Context
from outlast.contracts.errors import StoreUnavailableError
from outlast.ledger.fence import Retries
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store


class Forgetful(Store):
    """
    A store that goes away at the end of its *n*-th write from now on, which stands.
    """

    forgets = 0

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[sa.Connection]:  # type: ignore[override]
        with super().write(durable) as connection:
            yield connection
        self.forgets -= 1
        if self.forgets == 0:
            raise StoreUnavailableError("its answer was lost")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Forgetful]:
    made = Forgetful(tmp_path / "store.db")
    yield made
    made.close()


@pytest.fixture
def stage(store: Forgetful) -> Iterator[Stage]:
    with ThreadPoolExecutor(1) as threads:
        yield Stage(Ledger(store), threads)


@pytest.mark.parametrize("at", [1, 2], ids=["intent", "record"])
@pytest.mark.parametrize("if_unsure", ["park", "repeat"])
async def test_an_effect_happens_once_and_is_not_unsure(
    stage: Stage, store: Forgetful, at: int, if_unsure: Any
) -> None:
    """
    It is this very call's own intent, which has not been acted on.
    """
    acted: list[str] = []

    async def act(key: str, content: Any) -> str:
        acted.append(key)
        return "paid"

    async def play(given: Any, ctx: Context) -> str:
        store.forgets = at
        paid: str = await ctx.once("pay", act, content=1, if_unsure=if_unsure)
        return paid

    await stage.play(play)
    assert stage.result() == "paid"
    assert len(acted) == 1


async def test_what_an_earlier_attempt_has_begun_stays_unsure(
    stage: Stage, store: Forgetful
) -> None:
    """
    Its intent is not this call's, however often the answer is lost.
    """

    async def dies(key: str, content: Any) -> str:
        raise KeyboardInterrupt

    async def play(given: Any, ctx: Context) -> Any:
        return await ctx.once("pay", dies, content=1)

    with pytest.raises(Exception, match="Keyboard"):
        await stage.play(play)
    store.forgets = 2  # the claim, then the intent
    with pytest.raises(Exception, match="may have happened"):
        await stage.play(play)


def test_a_failure_is_counted_once(store: Forgetful) -> None:
    """
    By the line that it closes.
    """
    ledger = Ledger(store)
    claim = ledger.claim(assignment(), ROLE, 1)
    tries = Retries()
    store.forgets = 1
    with pytest.raises(StoreUnavailableError):
        ledger.record_failure(claim, "ill", "", tries)
    assert ledger.record_failure(claim, "ill", "", tries) == 1
