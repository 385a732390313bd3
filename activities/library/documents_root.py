"""
The one folder below which missions may have documents read.

What a mission names is resolved on the worker at the moment it is used, links and `..`
included: what lay inside when it was found may be a link to elsewhere by now.
"""

from pathlib import Path

from outlast import on_worker_start
from outlast.contracts.errors import OutsideFolderError
from outlast.crew.settings import settings
from outlast.store.output_roots import inside


@on_worker_start
def documents_root() -> Path | None:
    """
    OUTLAST_DOCUMENTS_ROOT of this worker, before an agent can change its folder; None
    for wherever the worker's user may read.
    """
    root = settings().documents_root
    return None if root is None else root.absolute()


def resolve_within(named: Path) -> Path:
    """
    Resolve the file or folder *named* by a mission, from the root if it is relative.

    :raises OutsideFolderError: when it leads outside, whichever way.
    """
    root = documents_root.value if documents_root.opened else None
    if root is None:
        return named
    found = inside(named, [root])
    if found is None:
        raise OutsideFolderError(
            f"{named} is outside OUTLAST_DOCUMENTS_ROOT, {root}: missions may have "
            "no other documents read here; name a folder below it"
        )
    return found
