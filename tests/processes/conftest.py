"""
A home with a real server for each test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.real import Home, free_port
from outlast.runtime.embedded import Server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    path = tmp_path / "home"
    path.mkdir()
    made = Home(path, Server(path, free_port(), free_port()))
    made.start_server()
    try:
        yield made
    finally:
        made.close()
