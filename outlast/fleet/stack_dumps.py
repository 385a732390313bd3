"""
What blocks a silent worker: stacks that it writes when its parent asks by a signal.

`faulthandler` writes them from C, so also while a call holds the interpreter. The main
thread writes its own stack, within which nothing moves. Only when that shows none of
the agent's code are all threads asked for: then a call of one of them holds the
interpreter, and no other can move either. A stopped process writes nothing.
"""

import asyncio
import contextlib
import faulthandler
import linecache
import os
import re
import signal
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.agents.user_code import is_ours, is_users
from outlast.store.private import open_private, require_own_folder

# Signals that agents are unlikely to take; 0 where there is no watchdog either.
MAIN_THREAD = signal.SIGRTMAX - 7 if hasattr(signal, "SIGRTMAX") else 0
ALL_THREADS = signal.SIGRTMAX - 6 if hasattr(signal, "SIGRTMAX") else 0

# A dump takes a millisecond or two, on a crowded machine more; nobody waits for it.
DUMP_LIMIT_S = 0.5
DUMP_CHECK_S = 0.002
DUMP_BYTES = 256 * 1024
STACK_LINE_CHARS = 400

_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')
_CALL_NAME = re.compile(r"([A-Za-z_][\w.]*)\(")
_ATTEMPT = os.path.join(Path(__file__).parents[1], "execution", "")
_STDLIB = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
# Innermost calls that let go of the interpreter: who is in one does not hold it.
_WAITING_CALLS = {
    *("time.sleep", "wait", "acquire", "join", "result", "get", "select", "poll"),
    *("recv", "recv_into", "read", "accept", "connect", "_wait_for_tstate_lock"),
}


@dataclass(frozen=True)
class Frame:
    file: str
    line: int
    function: str

    @property
    def of_agent(self) -> bool:
        return is_users(self.file)


CallStack = list[Frame]  # the innermost call first


@dataclass(frozen=True)
class Blocker:
    """
    What blocks a process: *agent* is the agents' outermost function in the stack.
    """

    agent: str
    call: str  # what it is in, as "requests.get"
    place: str  # as "agents.py:14"
    in_loop: bool

    def describe(self, seconds: float) -> str:
        where = f"for {seconds:.1f} s in `{self.call}` ({self.place})"
        if self.in_loop:
            return (
                f"`{self.agent}` blocked its event loop {where}: make the agent a "
                "plain `def`, or await an async client"
            )
        return (
            f"`{self.agent}` kept the interpreter {where}, and with it its whole "
            'process: give the agent isolation="process", or call it in a subprocess'
        )


def parse(dump: str) -> list[CallStack]:
    """
    Read the stacks of a faulthandler's dump, one for each thread.
    """
    stacks: list[CallStack] = []
    for line in dump.splitlines():
        if line.endswith("(most recent call first):"):
            stacks.append([])
        elif stacks and (found := _FRAME.match(line)):
            file, number, function = found.groups()
            stacks[-1].append(Frame(file, int(number), function))
    return stacks


def blocker(stacks: Sequence[CallStack], in_loop: bool) -> Blocker | None:
    """
    Find the agents' code that blocks, in the stack of the main thread (*in_loop*) or
    of all threads; None when none of it is there.
    """
    found = [each for stack in stacks if (each := _blocker(stack, in_loop))]
    holding = [each for each in found if in_loop or each.call not in _WAITING_CALLS]
    return holding[0] if holding else None


def _blocker(stack: CallStack, in_loop: bool) -> Blocker | None:
    theirs = [at for at, frame in enumerate(stack) if frame.of_agent]
    theirs = theirs or _installed(stack)
    if not theirs:
        return None
    inner = stack[theirs[0]]
    if not in_loop and theirs[0] and stack[0].function in _WAITING_CALLS:
        return None
    call = _called(inner, stack[theirs[0] - 1] if theirs[0] else None)
    place = f"{Path(inner.file).name}:{inner.line}"
    return Blocker(stack[theirs[-1]].function, call, place, in_loop)


def _installed(stack: CallStack) -> list[int]:
    """
    Find the frames of agents that are installed as a library: of what ours call.
    """
    for at, frame in enumerate(stack[:-1]):
        found = _INSTALLED.match(frame.file)
        if (
            found
            and not is_ours(frame.file)
            and stack[at + 1].file.startswith(_ATTEMPT)
        ):
            root = found[0]
            return [i for i in range(at + 1) if stack[i].file.startswith(root)]
    return []


def _called(frame: Frame, callee: Frame | None) -> str:
    """
    Name what *frame* calls: by the frame within it, or, for a function of C, by the
    line of the source.
    """
    if callee is None or callee.file.startswith("<"):
        return _by_source(frame)
    if installed := _INSTALLED.match(callee.file):
        return f"{installed[1].removesuffix('.py')}.{callee.function}"
    for root in _STDLIB:
        if callee.file.startswith(root):
            module = callee.file.removeprefix(root).strip("/").removesuffix(".py")
            module = module.removesuffix("/__init__").replace("/", ".")
            return f"{module}.{callee.function}"
    return callee.function


def _by_source(frame: Frame) -> str:
    linecache.checkcache(frame.file)
    text = linecache.getline(frame.file, frame.line)[:STACK_LINE_CHARS].strip()
    if text.startswith(("import ", "from ")):
        return text
    calls: list[str] = _CALL_NAME.findall(text)
    return next((each for each in calls if "." in each), (calls or [frame.function])[0])


def write_on_signal(path: Path) -> None:
    """
    Have this process write its stacks to *path* when its parent asks. The file comes
    last: a signal that is not registered yet would kill.
    """
    require_own_folder(path.parent)
    path.unlink(missing_ok=True)
    if not MAIN_THREAD:
        return
    made = path.with_suffix(".new")
    file = open_private(made, os.O_WRONLY | os.O_APPEND)
    faulthandler.register(MAIN_THREAD, file=file, all_threads=False)
    faulthandler.register(ALL_THREADS, file=file, all_threads=True)
    os.register_at_fork(after_in_child=_write_no_more)
    made.rename(path)


def _write_no_more() -> None:
    for number in (MAIN_THREAD, ALL_THREADS):
        faulthandler.unregister(number)


async def sample(pid: int, path: Path) -> Blocker | None:
    """
    Ask the process *pid* what blocks it; None when it does not say.
    """
    if not MAIN_THREAD:
        return None
    main = parse(await _dump(pid, path, MAIN_THREAD))
    if not main:
        return None  # it is stopped, or gone
    return blocker(main, in_loop=True) or blocker(
        parse(await _dump(pid, path, ALL_THREADS)), in_loop=False
    )


async def _dump(pid: int, path: Path, number: int) -> str:
    """
    Send the signal and read what the process writes; "" when it writes nothing.
    """
    try:
        os.truncate(path, 0)  # only a process that is ready has made the file
        os.kill(pid, number)
    except OSError:
        return ""
    deadline, size = time.monotonic() + DUMP_LIMIT_S, 0
    while time.monotonic() < deadline:
        await asyncio.sleep(DUMP_CHECK_S)
        with contextlib.suppress(OSError):
            before, size = size, path.stat().st_size  # noqa: ASYNC240 - a stat
            if size and size == before:
                break
    try:
        with path.open("rb") as file:
            return file.read(DUMP_BYTES).decode(errors="replace")
    except OSError:
        return ""
