"""
What one command opens: each thing once, and closed with the command.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer

from outlast.cli.entrypoint import EXIT_INTERRUPTED, in_session
from outlast.cli.session import Session
from outlast.settings import settings
from outlast.store.database import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OUTLAST_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


async def is_closed(store: Store) -> bool:
    try:
        await store.run(lambda: None)
    except RuntimeError:
        return True
    return False


def ended_by(error: BaseException) -> Store:
    """
    Return the store of a session that ended with *error*.
    """
    session = Session()
    store = session.store
    session.__exit__(type(error), error, None)
    return store


async def test_a_command_opens_one_store_and_closes_it(home: Path) -> None:
    """
    Also where it is first needed by several threads at once.
    """
    with Session() as session:
        with ThreadPoolExecutor(4) as threads:
            opened = {id(each) for each in threads.map(lambda _: session.store, "abcd")}
        store = session.store
        assert opened == {id(store)}
        assert not await is_closed(store)
    assert await is_closed(store)


async def test_a_command_that_fails_closes_its_store(home: Path) -> None:
    assert await is_closed(ended_by(ValueError("amiss")))


async def test_ctrl_c_does_not_wait_for_the_store(home: Path) -> None:
    """
    Closing waits for calls, and those wait for a store that is away.
    """
    stores = []
    for end in (KeyboardInterrupt(), typer.Exit(EXIT_INTERRUPTED)):
        stores.append(ended_by(end))
    assert [await is_closed(each) for each in stores] == [False, False]
    for each in stores:
        each.close()


def test_a_command_that_needs_no_store_opens_none(home: Path) -> None:
    assert in_session(lambda session: "done") == "done"
    assert list(home.iterdir()) == []
