"""
Which Temporal SDK was tested, and what is said of another.
"""

import re
from pathlib import Path

import pytest

from outlast.temporal.sdk import SDK_VERSION, TESTED_SDK, untested

ROOT = Path(__file__).parents[2]


def test_what_the_lock_files_have_is_what_was_tested() -> None:
    """
    The tests run on the lock file's release, so nothing else can have been tested.
    """
    for name in ("requirements.lock", "requirements-dev.lock"):
        [locked] = re.findall(r"^temporalio==(\S+)", (ROOT / name).read_text(), re.M)
        assert untested(locked) is None
    assert untested(SDK_VERSION) is None


@pytest.mark.parametrize("other", ["1.36.0", "2.35.1", "1.3.5", "1"])
def test_another_minor_release_is_named_with_what_to_do(other: str) -> None:
    """
    Which is there, which was tested, and the command that brings it back.
    """
    told = untested(other)
    assert told is not None
    assert f"temporalio {other} is installed" in told
    assert f"pip install 'temporalio=={TESTED_SDK}.*'" in told
