"""
Recorders that lost fleets have left in this home: of dead workers whose parent is dead
too.

Heartbeat timeouts would end their attempts, a second later; where another fleet shares
the home, its parent sees them first.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Container
from pathlib import Path

from outlast.fleet.recorder_reader import CrashedRecorder, recorder_files

logger = logging.getLogger("outlast.fleet")

ORPHAN_CHECK_S = 0.25


async def watch_orphans(
    folder: Path, ours: Container[Path]
) -> AsyncIterator[dict[Path, bool]]:
    """
    Find, without end, the recorders in *folder* that no parent reports: a live one
    would have done so between two looks. Those that are there at first are found at
    once; *ours* never.

    Yields those found at one look, each with whether its worker had drained.
    """
    before: dict[Path, bool] | None = None
    while True:
        dead = _dead(folder, ours)
        seen = dead if before is None else before
        if found := {each: dead[each] for each in dead.keys() & seen.keys()}:
            yield found
        before = dead
        await asyncio.sleep(ORPHAN_CHECK_S)


def _dead(folder: Path, ours: Container[Path]) -> dict[Path, bool]:
    """
    Find the recorders of dead workers, each with whether it had drained.
    """
    try:
        strange = [each for each in recorder_files(folder) if each not in ours]
    except OSError as error:  # no open files left, for one: there will be again
        logger.warning("recorders.unseen: %s", error)
        return {}
    opened = ((each, CrashedRecorder.open(each)) for each in strange)
    return {
        each: crashed.was_drained for each, crashed in opened if crashed is not None
    }
