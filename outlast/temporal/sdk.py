"""
The Temporal SDK that this release was tested with. It may be another: a project has
reasons of its own to choose one.
"""

from temporalio import service

SDK_VERSION = service.__version__
TESTED_SDK = "1.35"


def untested(installed: str = SDK_VERSION) -> str | None:
    """
    Say in one sentence that another minor release than the tested one is *installed*.
    """
    if installed.split(".")[:2] == TESTED_SDK.split("."):
        return None
    return (
        f"temporalio {installed} is installed, {TESTED_SDK} was tested: recovery may "
        f"take longer than docs/failures.md says; "
        f"pip install 'temporalio=={TESTED_SDK}.*'"
    )
