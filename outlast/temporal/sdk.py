"""
The Temporal SDK that this release was tested with. It may be another: a project has
reasons of its own to choose one.
"""

from temporalio import service

INSTALLED = service.__version__
TESTED = "1.35"


def untested(installed: str = INSTALLED) -> str | None:
    """
    Say in one sentence that another minor release than the tested one is *installed*.
    """
    if installed.split(".")[:2] == TESTED.split("."):
        return None
    return (
        f"temporalio {installed} is installed, {TESTED} was tested: recovery may take "
        f"longer than docs/failures.md says; pip install 'temporalio=={TESTED}.*'"
    )
