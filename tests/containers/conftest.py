"""
One engine and one stack for all tests of this folder.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import base_images
import pytest
from engine import Engine, Project, missing

# Ports that no service of this machine is likely to have.
SETTINGS = {
    "POSTGRES_PORT": "25432",
    "TEMPORAL_PORT": "27233",
    "TEMPORAL_UI_PORT": "28233",
}


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if why := missing():
        pytest.skip(why)
    top = Path(tempfile.mkdtemp(prefix="outlast-engine-"))
    engine = Engine(top)
    engine.start()
    try:
        base_images.make(engine)
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(engine: Engine) -> Iterator[Project]:
    """
    The shipped stack, up.
    """
    os.environ.update(SETTINGS)
    project = Project(engine)
    project.compose("up", "--detach", "--build", "--wait", timeout=600)
    try:
        yield project
    finally:
        project.compose("down", "--volumes")
