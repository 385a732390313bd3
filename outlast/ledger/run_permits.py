"""
Whether a run of the mesh may go on here: a permit of the peer, valid for a moment.

A peer that was frozen or cut off wakes with agents in the middle of their work, and may
own none of it any more. Until it has heard from the others and permits the run again,
nothing of that run is begun, saved or done here. Missions of no mesh need no permit.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from outlast.contracts.ids import mesh_run_of
from outlast.contracts.mesh_timing import RUN_PERMIT_TTL_S
from outlast.store.private import open_private, require_own_folder


def boot_clock_s() -> float:
    """
    Read the host's clock that only grows, also while the machine sleeps where there is
    such a one. All processes of the host read the same.
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class RunPermits:
    """
    The permits of runs, each the time of a file in *folder*; None where no peer is.

    :param clock: its host's, as `boot_clock_s`.
    """

    def __init__(
        self, folder: Path | None, clock: Callable[[], float] = boot_clock_s
    ) -> None:
        self._folder = folder
        self._clock = clock

    def is_permitted(self, mission: str) -> bool:
        """
        Say whether *mission* may go on: a run of the mesh, a mission within one, or
        the batch that one of them fans out to.
        """
        if self._folder is None:
            return True
        # Asked at every save: Path objects would take most of the time.
        run = mesh_run_of(mission)
        return run is None or self._is_valid(f"{self._folder}/{run}")

    def _is_valid(self, permit: str | Path) -> bool:
        try:
            until = os.stat(permit).st_mtime
        except FileNotFoundError:
            return True
        # A time from before a restart of the host is later than any permit lasts.
        return 0 < until - self._clock() < 2 * RUN_PERMIT_TTL_S

    @property
    def suspended(self) -> list[str]:
        if self._folder is None:
            return []
        return [each for each in self.all if not self._is_valid(self._folder / each)]

    @property
    def all(self) -> list[str]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(each.name for each in self._folder.iterdir())

    def add(self, mission: str) -> None:
        """
        Have *mission* need a permit, from before it begins.
        """
        assert self._folder is not None
        require_own_folder(self._folder)
        os.close(open_private(self._folder / mission, os.O_WRONLY))
        self.revoke(mission)

    def grant(self, mission: str) -> None:
        self._set(mission, self._clock() + RUN_PERMIT_TTL_S)

    def revoke(self, mission: str) -> None:
        self._set(mission, 0)

    def remove(self, mission: str) -> None:
        """
        Forget *mission*: nothing of it runs here any more.
        """
        assert self._folder is not None
        (self._folder / mission).unlink(missing_ok=True)

    def _set(self, mission: str, until: float) -> None:
        assert self._folder is not None
        with suppress(FileNotFoundError):
            os.utime(self._folder / mission, (until, until))


NO_PERMITS_NEEDED = RunPermits(None)


def run_permits(home: Path) -> RunPermits:
    return RunPermits(home / "mesh" / "runs")
