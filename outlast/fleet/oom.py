"""
The kernel's own count of processes that it has killed for want of memory, by cgroup.

Such a kill is a SIGKILL like any other. The count says that there was one in our
cgroup, and a worker that was killed within the same moment was it.
"""

import time
from collections.abc import Callable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# How long after the count has grown a death is put down to it.
RECENT_OOM_S = 1.0


class OomKills:
    """
    Tells whether the kernel has just killed for want of memory, once for each kill.

    :param file: of the count; None where there is none.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        file: Path | None = None,
    ) -> None:
        self._clock = clock
        self._file = file or oom_events_file()
        self._seen = self._count()
        self._grown: list[float] = []  # when, for each kill that nobody was yet

    def update(self) -> None:
        count, now = self._count(), self._clock()
        self._grown += [now] * (count - self._seen)
        self._seen = max(count, self._seen)

    def is_recent(self) -> bool:
        """
        Whether the process that was just killed can have been killed for this.
        """
        self.update()
        late = self._clock() - RECENT_OOM_S
        self._grown = [at for at in self._grown if at >= late]
        return bool(self._grown) and self._grown.pop(0) >= late

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        told = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
        return int(told[0]) if told else 0


def oom_events_file() -> Path | None:
    """
    Find the file with our cgroup's count, of either version of cgroups.
    """
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for folder in (path.lstrip("/"), ""):  # a container sees itself as the root
            found = {
                "": CGROUPS / folder / "memory.events",
                "memory": CGROUPS / "memory" / folder / "memory.oom_control",
            }.get(controllers)
            if found is not None and found.exists():
                return found
    return None
