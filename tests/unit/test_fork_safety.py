"""
What a module leaves behind at its import, and which of it must not be shared.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOOK = """
import os, socket, sys
from outlast.agents.importing import import_agents
from outlast.fleet.fork_safety import ForkSafety
listening = socket.create_server(("127.0.0.1", 0))
os.environ["PORT"] = str(listening.getsockname()[1])
for path in sys.argv[1:]:
    left = ForkSafety()
    with left.watching("mine"):
        import_agents(path)
    print(left.found[0] if left.found else "nothing")
"""
SERVER = "('127.0.0.1', int(os.environ['PORT']))"

SHARED = {
    f"S = socket.create_connection({SERVER})": "opened a socket to 127.0.0.1:",
    "S = socket.create_server(('127.0.0.1', 0))": "opened a socket at 127.0.0.1:",
    "A, B = socket.socketpair()": "opened a socket (fd ",
    "LOOP = asyncio.new_event_loop()": "opened an event loop (fd ",
    "ENDS = os.pipe()": "opened a pipe (fd ",
    "DB = sqlite3.connect('{folder}/db'); DB.execute('create table t (x)')": (
        "opened the file {folder}/db (fd "
    ),
    "F = open(__file__)": "opened the file {folder}/",
    "T = threading.Thread(target=threading.Event().wait, daemon=True); T.start()": (
        "started the thread 'Thread-1 (wait)'"
    ),
    "_thread.start_new_thread(time.sleep, (99,))": "started 1 native threads",
    "P = subprocess.Popen(['sleep', '0.5'])": "started a process (",
    "ME = uuid.uuid4()": "drew an id that all workers would share ({folder}/",
    "ME = secrets.token_hex(8)": "drew an id that all workers would share ({folder}/",
    "from uuid import uuid4 as made; ME = made()": "drew an id",
}
APART = {
    "asyncio.run(asyncio.to_thread(print))": "a loop and threads that have ended",
    "LOG = open('{folder}/log', 'a')": "a log",
    "B = Path(__file__).read_text()": "a file that was read",
    "F = open(__file__, 'rb'); M = mmap.mmap(F.fileno(), 0, prot=1); 0": "a map",
    "N = open('/dev/null')": "a device",
    "R = random.Random()": "a generator, seeded anew after the fork",
    "subprocess.run(['true'])": "a process that has ended",
    "import multiprocessing.process": "what the library draws for itself",
    "def f(): return uuid.uuid4()": "an id that is drawn later",
}
HEAD = """
import _thread, asyncio, mmap, os, random, secrets, socket, sqlite3, subprocess
import threading, time, uuid
from pathlib import Path
"""


def found(folder: Path, lines: list[str]) -> list[str]:
    """
    Say what each of *lines*, in a module of its own, leaves.
    """
    files = []
    for number, line in enumerate(lines):
        files.append(folder / f"mine{number}.py")
        files[-1].write_text(HEAD + line.replace("{folder}", str(folder)) + "\n")
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return ended.stdout.splitlines()


def test_what_must_not_be_shared_is_found(tmp_path: Path) -> None:
    """
    Named in one line, with the module and, for open files, their number.
    """
    told = found(tmp_path, list(SHARED))
    assert len(told) == len(SHARED)
    for said, expected in zip(told, SHARED.values(), strict=True):
        assert said.startswith("mine ")
        assert expected.replace("{folder}", str(tmp_path)) in said
        assert ("on_worker_start" in said) != ("native" in said)


def test_what_may_be_shared_costs_no_fork(tmp_path: Path) -> None:
    """
    A log that all write to the end of, what has ended, and what is seeded anew.
    """
    told = dict(zip(APART.values(), found(tmp_path, list(APART)), strict=True))
    assert {name for name, said in told.items() if said != "nothing"} == set()


RESEED = """
import os, random, sys
from outlast.agents.importing import import_agents
from outlast.fleet.fork_safety import ForkSafety
left = ForkSafety()
with left.watching("mine"):
    mine = import_agents(sys.argv[1])
for _ in range(2):
    if os.fork() == 0:
        left.random.reseed()
        print(mine.BY_CHANCE.random(), mine.CHOSEN.random(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_generators_differ_after_a_fork(tmp_path: Path) -> None:
    """
    Unless somebody has chosen the seed: then they want the same numbers.
    """
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(
            """
            import random

            class Mine(random.Random): ...

            BY_CHANCE, CHOSEN = Mine(), random.Random(42)
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, "-c", RESEED, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    first, second = (line.split() for line in ended.stdout.splitlines())
    assert first[0] != second[0]
    assert first[1] == second[1]
