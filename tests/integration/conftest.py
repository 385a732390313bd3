"""
A time-skipping server of its own for each test, or one real server for those that
need what only that does.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from small_crew import Crew
from temporalio.testing import WorkflowEnvironment

from outlast.dev.ports import free_port
from outlast.dev.server import DevServer
from outlast.store.database import Store
from outlast.temporal.connect import connect
from outlast.temporal.conversion import CONVERTER

TEST_SERVER = Path(sys.executable).parent / "temporal-test-server"


@pytest.fixture
async def time() -> AsyncIterator[WorkflowEnvironment]:
    found = shutil.which("temporal-test-server") or str(TEST_SERVER)
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=CONVERTER, test_server_existing_path=found
    ) as environment:
        yield environment


@pytest.fixture
async def small_crew(time: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Crew]:
    store = Store(tmp_path / "store.db")
    yield Crew(time.client, store)
    store.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    home = tmp_path_factory.mktemp("home")
    made = DevServer(home, free_port(), free_port())
    asyncio.run(made.start())
    yield made
    made.stop()


@pytest.fixture
async def lasting_crew(server: DevServer, tmp_path: Path) -> AsyncIterator[Crew]:
    store = Store(tmp_path / "store.db")
    yield Crew(await connect(server.address), store, name=tmp_path.name)
    store.close()
