"""
What blocks a silent worker, read from the stacks that it writes.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import outlast
from outlast.fleet.stack_dumps import Blocker, Frame, blocker, parse, sample
from testkit.processes import wait_for

ROOT = Path(outlast.__file__).parents[1]
STDLIB = str(Path(os.__file__).parent)
LOOP = f'''  File "{STDLIB}/asyncio/events.py", line 80 in _run
  File "{STDLIB}/asyncio/base_events.py", line 1909 in _run_once
  File "{ROOT}/outlast/fleet/worker_main.py", line 87 in run
'''
IDLE = f'''  File "{STDLIB}/selectors.py", line 468 in select
  File "{STDLIB}/asyncio/base_events.py", line 1871 in _run_once
'''


def dump(*threads: str) -> str:
    heads = ["Thread 0x00007f01", "Current thread 0x00007f02"]
    titles = heads if len(threads) > 1 else ["Stack"]
    return "\n".join(
        f"{title} (most recent call first):\n{frames}"
        for title, frames in zip(titles, threads, strict=True)
    )


def test_a_client_of_a_library_is_named_with_the_line_that_calls_it() -> None:
    """
    What a person can change is the line of their own code.
    """
    stack = dump(f'''  File "{STDLIB}/ssl.py", line 1314 in read
  File "/venv/lib/python3.11/site-packages/requests/sessions.py", line 5 in request
  File "/venv/lib/python3.11/site-packages/requests/api.py", line 73 in get
  File "/srv/crew/agents.py", line 14 in look_up
  File "/srv/crew/agents.py", line 30 in refund
  File "{ROOT}/outlast/execution/attempt.py", line 229 in call
{LOOP}''')
    found = blocker(parse(stack), in_loop=True)
    assert found == Blocker("refund", "requests.get", "agents.py:14", in_loop=True)
    assert found.describe(1.62) == (
        "`refund` blocked its event loop for 1.6 s in `requests.get` (agents.py:14): "
        "make the agent a plain `def`, or await an async client"
    )


@pytest.mark.parametrize(
    ("file", "function", "call"),
    [
        ("urllib/request.py", "urlopen", "urllib.request.urlopen"),
        ("json/__init__.py", "loads", "json.loads"),
        ("subprocess.py", "run", "subprocess.run"),
    ],
)
def test_a_call_of_the_standard_library_has_its_module(
    file: str, function: str, call: str
) -> None:
    """
    As it is imported.
    """
    stack = dump(f'''  File "{STDLIB}/{file}", line 1 in {function}
  File "/srv/crew/agents.py", line 14 in refund
{LOOP}''')
    found = blocker(parse(stack), in_loop=True)
    assert found is not None
    assert found.call == call


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("    time.sleep(1.6)  # a slow day", "time.sleep"),
        ('    return {"n": len(re.findall(pattern, text))}', "re.findall"),
        ("    total = sum(range(n))", "sum"),
        ("    import openai", "import openai"),
        ("    x = y", "refund"),
    ],
)
def test_a_call_into_c_is_read_from_the_source(
    tmp_path: Path, line: str, call: str
) -> None:
    """
    It has no frame of its own.
    """
    agents = tmp_path / "agents.py"
    agents.write_text(f"def refund():\n{line}\n")
    stack = dump(f'  File "{agents}", line 2 in refund\n{LOOP}')
    found = blocker(parse(stack), in_loop=True)
    assert found == Blocker("refund", call, "agents.py:2", in_loop=True)


def test_an_agent_that_is_installed_is_found_too() -> None:
    """
    By who calls it: its files lie among those of libraries.
    """
    stack = dump(f'''  File "{STDLIB}/socket.py", line 718 in readinto
  File "/venv/lib/python3.11/site-packages/shop/agents.py", line 9 in refund
  File "{ROOT}/outlast/execution/attempt.py", line 229 in call
{LOOP}''')
    found = blocker(parse(stack), in_loop=True)
    assert found == Blocker("refund", "socket.readinto", "agents.py:9", in_loop=True)


@pytest.mark.parametrize(
    "text", ["", "nonsense", dump(LOOP), dump(IDLE), dump("  <no>")]
)
def test_without_code_of_agents_nobody_is_blamed(text: str) -> None:
    """
    A loop that waits for the interpreter, our own code, or what cannot be read.
    """
    assert blocker(parse(text), in_loop=True) is None


def test_who_waits_does_not_hold_the_interpreter(tmp_path: Path) -> None:
    """
    Of two agents' threads, the one that computes is named.
    """
    agents = tmp_path / "agents.py"
    agents.write_text("time.sleep(9)\ntotal = sum(range(10**9))\n")
    sleeps = f'  File "{agents}", line 1 in sleeps\n'
    waits = f'  File "{STDLIB}/queue.py", line 171 in get\n{sleeps}'
    adds = f'  File "{agents}", line 2 in adds\n'
    for other in (sleeps, waits):
        found = blocker(parse(dump(other, adds)), in_loop=False)
        assert found == Blocker("adds", "sum", "agents.py:2", in_loop=False)
        assert "kept the interpreter for 3.0 s in `sum`" in found.describe(3.0)


def test_a_frame_is_read_as_it_is_written() -> None:
    """
    File, line and function, innermost first.
    """
    assert parse(dump('  File "/a b/c.py", line 7 in <lambda>\n')) == [
        [Frame("/a b/c.py", 7, "<lambda>")]
    ]


# Real processes

WORKER = """
import asyncio, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import agents
from outlast.fleet.stack_dumps import write_on_signal

async def main():
    asyncio.get_running_loop().call_later(0.1, Path(sys.argv[3], "ready").touch)
    write_on_signal(Path(sys.argv[1]))
    await asyncio.sleep(0.2)
    if sys.argv[2] == "thread":
        threading.Thread(target=agents.sleeps, daemon=True).start()
        threading.Thread(target=agents.adds, daemon=True).start()
        await asyncio.sleep(60)
    await agents.refund() if sys.argv[2] == "loop" else await asyncio.sleep(60)

asyncio.run(main())
"""

AGENTS = """
import time

async def refund():
    time.sleep(60)

def sleeps():
    time.sleep(60)

def adds():
    return sum(range(10**10))
"""


@contextmanager
def silent(folder: Path, how: str) -> Iterator[tuple[int, Path]]:
    (folder / "agents.py").write_text(AGENTS)
    stack = folder / "run" / "1.stack"  # the first to write there
    command = [sys.executable, "-c", WORKER, str(stack), how, str(folder)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_for((folder / "ready").exists, "its loop", limit_s=20.0)
            yield process.pid, stack
        finally:
            process.kill()


async def asked(pid: int, stack: Path) -> Blocker:
    """
    Ask until it is where it will stay.
    """
    for _ in range(200):
        if found := await sample(pid, stack):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it does not say what blocks it")


async def test_a_loop_that_sleeps_says_where(tmp_path: Path) -> None:
    """
    Again and again: the file holds the last answer only, and the process lives.
    """
    with silent(tmp_path, "loop") as (pid, stack):
        first = await asked(pid, stack)
        assert first == Blocker("refund", "time.sleep", "agents.py:5", in_loop=True)
        assert await sample(pid, stack) == first
        assert len(parse(stack.read_text())) == 1


async def test_a_call_into_c_is_found_while_it_holds_the_interpreter(
    tmp_path: Path,
) -> None:
    """
    No Python runs in that process meanwhile.
    """
    with silent(tmp_path, "thread") as (pid, stack):
        found = await asked(pid, stack)
        assert found == Blocker("adds", "sum", "agents.py:11", in_loop=False)


async def test_a_stopped_process_says_nothing(tmp_path: Path) -> None:
    """
    It is not waited for.
    """
    with silent(tmp_path, "idle") as (pid, stack):
        os.kill(pid, signal.SIGSTOP)
        assert await asyncio.wait_for(sample(pid, stack), 2.0) is None


async def test_a_process_that_is_not_ready_gets_no_signal(tmp_path: Path) -> None:
    """
    It would die of it: without the file nothing is sent.
    """
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert await sample(process.pid, tmp_path / "none.stack") is None
            assert process.poll() is None
        finally:
            process.kill()
