"""
Processes as Linux shows them in /proc: their families, commands, memory and time.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in tasks for child in each.read_text().split()]


def family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with suppress(OSError):  # it has gone
            found += children_of(each)
    return found


def parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def processes_of(home: Path) -> Iterator[tuple[int, list[str]]]:
    """
    Find the processes whose OUTLAST_HOME is *home*, each with its command; a zombie
    has no environment any more and is none.
    """
    mark = f"OUTLAST_HOME={home}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                pid = int(folder.name)
                yield pid, command_of(pid)


def cpu_s(pid: int) -> float:
    """
    Read the CPU seconds, user and system, that *pid* has used so far.

    :raises FileNotFoundError: when it is gone.
    """
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / TICKS_A_SECOND


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb(pid: int) -> float:
    """
    Read the most memory that a process ever had; 0 when it is gone.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold spaces: what follows it does not.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
