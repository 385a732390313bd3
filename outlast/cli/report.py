"""
The report of a question whose workers had no folder of the starter's to write it into.
"""

import sys

from outlast.cli.missions import Conducted
from outlast.crew.answering.handover import Index, Review
from outlast.crew.publisher import report, write
from outlast.runtime.settings import settings


def write_report(conducted: Conducted) -> str | None:
    """
    Write the report among this home's; returns where it lies, None when it cannot be.
    """
    review, index = (conducted.results.get(task) for task in ("review", "index"))
    if review is None or index is None:
        return None
    text = report(Review.model_validate(review), Index.model_validate(index))
    path = settings().reports_folder / f"{conducted.mission.id}.md"
    try:
        return write(path, text)
    except OSError as error:
        print(f"no report: {path} cannot be written: {error.strerror}", file=sys.stderr)
        return None
