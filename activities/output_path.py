"""
Where the crew writes: what every mission may have written, and the folder of reports.
"""

from pathlib import Path
from typing import Annotated

from outlast.crew.settings import settings
from outlast.store import output_roots


def reports_root() -> list[Path]:
    """
    List the folder that OUTLAST_REPORTS names, if it does.
    """
    reports = settings().reports
    return [] if reports is None else [reports.absolute()]


def writable(named: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, for something to be written there.

    :raises OutsideFolderError: when it is neither below the engine's roots nor among
        reports.
    """
    return output_roots.writable(named, *reports_root())


OutputPath = Annotated[Path, output_roots.output_path(reports_root)]
