"""
What importing a module has left behind that processes must not share.

A forked worker has its fork server's connections: two of them on one socket read each
other's answers, two with one generator draw the same numbers. Open sockets, pipes,
event loops and databases, threads, child processes and ids drawn by chance make a
module unsafe to fork; random generators are seeded anew after the fork instead.
"""

import contextlib
import gc
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.fleet.shared_randomness import SharedRandomness

THREADS_FOLDER = Path("/proc/self/task")
OPEN_FILES_FOLDER = Path("/proc/self/fd")
MEMORY_MAPS = Path("/proc/self/maps")
# A thread that was joined is listed for an instant longer.
THREAD_END_S = 0.05
MAX_SHOWN_THREADS = 3

FILE_KINDS = {
    "anon_inode:[eventpoll]": "an event loop",
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[timerfd]": "a timer",
    "anon_inode:[signalfd]": "a signalfd",
    "anon_inode:[pidfd]": "a pidfd",
    "anon_inode:inotify": "an inotify watch",
    "pipe": "a pipe",
}
ADVICE = "do it in a function under @outlast.on_worker_start, once in each process"


@dataclass(frozen=True)
class Footprint:
    """
    What a process holds of the kernel: its open files by number, threads and children.
    """

    files: frozenset[tuple[int, str]]
    threads: frozenset[str]
    children: frozenset[str]


@dataclass
class ForkSafety:
    """
    What the modules that were imported while it watched have left.

    :param found: a sentence for each thing that makes forking unsafe.
    """

    found: list[str] = field(default_factory=list)
    random: SharedRandomness = field(default_factory=SharedRandomness)

    @contextmanager
    def watching(self, module: str) -> Iterator[None]:
        """
        Note what the import of *module*, within, leaves.
        """
        before = footprint()
        with self.random.watching() as drawn:
            yield
        left = _lasting_leftovers(before)
        if drawn:
            left.append(f"drew an id that all workers would share ({drawn[0]})")
        if left:
            self.found.append(_sentence(module, left))


def _sentence(module: str, left: list[str]) -> str:
    shown, more = left[:MAX_SHOWN_THREADS], len(left) - MAX_SHOWN_THREADS
    rest = f" and {more} more" if more > 0 else ""
    sentence = f"{module} {', '.join(shown)}{rest} at import"
    own = any("native" not in each for each in left)
    return f"{sentence}; {ADVICE}" if own else sentence


def footprint() -> Footprint:
    files = {(int(each), _link(each)) for each in os.listdir(OPEN_FILES_FOLDER)}
    children = (THREADS_FOLDER / str(os.getpid()) / "children").read_text().split()
    return Footprint(
        frozenset(each for each in files if each[1]),
        frozenset(os.listdir(THREADS_FOLDER)),
        frozenset(children),
    )


def _link(number: str) -> str:
    try:
        return os.readlink(OPEN_FILES_FOLDER / number)
    except OSError:
        return ""  # it was the listing's own


def _lasting_leftovers(before: Footprint) -> list[str]:
    """
    Say what is there that was not *before*, once what only lingers is gone.
    """
    left = leftovers_since(before, footprint())
    if left:
        gc.collect()
        time.sleep(THREAD_END_S)
        left = leftovers_since(before, footprint())
    return left


def leftovers_since(before: Footprint, now: Footprint) -> list[str]:
    """
    Say in words what of *now* was not there *before* and must not be shared.
    """
    told = [
        f"opened {unsafe} (fd {number})"
        for number, link in sorted(now.files - before.files)
        if (unsafe := unsafe_file(number, link)) is not None
    ]
    told += [f"started a process ({pid})" for pid in now.children - before.children]
    return told + _threads_since(before, now)


def _threads_since(before: Footprint, now: Footprint) -> list[str]:
    started = {int(each) for each in now.threads - before.threads}
    known = {each.native_id: each.name for each in threading.enumerate()}
    told = [f"started the thread {known[each]!r}" for each in started if each in known]
    native = len(started) - len(told)
    return told + ([f"started {native} native threads"] if native else [])


def unsafe_file(number: int, link: str) -> str | None:
    """
    Say what the open file is if processes must not share it, else None.

    Its place in a file that is read is shared, and so are a database's locks. A log
    is written to its end by all, and what is mapped is read without a place.
    """
    if link.startswith("socket:"):
        return _socket(number)
    for name, told in FILE_KINDS.items():
        if link.startswith(name):
            return told
    found = os.fstat(number)
    if stat.S_ISFIFO(found.st_mode):
        return f"the pipe {link}"
    if not stat.S_ISREG(found.st_mode) or _writes_only(number) or _is_mapped(link):
        return None
    return f"the file {link}"


def _writes_only(number: int) -> bool:
    info = Path(f"/proc/self/fdinfo/{number}").read_text()
    flags = int(info.partition("flags:")[2].split()[0], 8)
    return flags & os.O_ACCMODE == os.O_WRONLY


def _is_mapped(link: str) -> bool:
    return f" {link}\n" in MEMORY_MAPS.read_text()


def _socket(number: int) -> str:
    with socket.socket(fileno=os.dup(number)) as found:
        at = _address(found.getsockname())
        with contextlib.suppress(OSError):  # it is connected to nobody
            peer = _address(found.getpeername())
            return f"a socket to {peer}" if peer else "a socket"
        return f"a socket at {at}" if at else "a socket"


def _address(name: Any) -> str:
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
