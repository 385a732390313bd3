"""
The suite leaves the home of the person who runs it alone.
"""

import os
import tempfile
from pathlib import Path

from outlast.settings import settings


def test_the_home_of_the_suite_is_its_own() -> None:
    """
    What a test does not give a home uses one that ends with the suite, never the
    `.outlast` of the folder, with its missions and its stack.
    """
    home = Path(os.environ["OUTLAST_HOME"])
    assert home.is_relative_to(tempfile.gettempdir())
    assert settings().home == home
