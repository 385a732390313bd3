"""
A home with a real server for each test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mission_driver import Course

from outlast.dev.ports import free_port
from outlast.dev.server import DevServer
from testkit.processes import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    made = Home(path, DevServer(path, free_port(), free_port()))
    made.start_server()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own(home: Home, tmp_path: Path) -> Iterator[Course]:
    """
    A mission in the test's own home, which starts with no fleet.
    """
    made = Course(home, "own", tmp_path)
    yield made
    made.leave()
