"""
What a user's module may do when it is imported, and what becomes of it.
"""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Write = Callable[..., Path]
AGENT = """
from outlast import Context, agent

@agent({role!r})
async def plays(given: dict, ctx: Context) -> None: ...
"""
# Printed last, so that what a module has done to the process would show.
LOAD = """
import asyncio, logging, os, signal, sys
from outlast.agents import importing
from outlast.agents.agent_loading import load_agents
from outlast.contracts.errors import BadInputError
logging.basicConfig(level=logging.WARNING, format="ours %(message)s")

def attempt(*modules):
    try:
        print("roles", *load_agents([*modules]))
    except BadInputError as error:
        print("refused", error)

async def attempt_in_a_loop(*modules):
    attempt(*modules)
    await asyncio.sleep(0)

{code}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, source: str = "", role: str = "mine") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(AGENT.format(role=role) + textwrap.dedent(source))
        return path

    return write


def python(code: str, *modules: Path) -> subprocess.CompletedProcess[str]:
    """
    Run *code* in a process of its own; sys.argv[1:] are the modules.
    """
    return subprocess.run(
        [sys.executable, "-c", LOAD.format(code=code), *map(str, modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        input="typed\n",
    )


def loaded(*modules: Path, after: str = "") -> list[str]:
    """
    Load *modules* in a process of its own, and run *after* there.
    """
    return python(f"attempt(*sys.argv[1:])\n{after}", *modules).stdout.splitlines()


WORKS = {
    "asyncio.run": "import asyncio; asyncio.run(asyncio.sleep(0))",
    "chdir": "import os; os.chdir('/')",
    "prints": "print('loud')\nimport os; os.write(1, b'loud')",
    "a process that prints": "import os; os.system('echo loud')",
    "signals": """
        import signal
        for each in (signal.SIGTERM, signal.SIGINT): signal.signal(each, print)
        """,
    "logging": """
        import logging
        logging.basicConfig(level=10, format="theirs %(message)s")
        """,
    "logging by dict": """
        import logging.config
        logging.config.dictConfig({"version": 1, "root": {"level": "DEBUG"}})
        """,
    "warnings as errors": "import warnings; warnings.simplefilter('error')",
    "a forked process that exits": """
        import multiprocessing, os
        if (pid := os.fork()) == 0: os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        """,
    "an interrupt that it catches": """
        try: raise KeyboardInterrupt
        except KeyboardInterrupt: pass
        """,
}


STATE = """
import warnings
for name in sys.argv[1:]:
    {how}(name))
    print(os.getcwd(), *map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
    warnings.warn("seen")
    logging.getLogger("outlast.x").warning("told")
    logging.info("not shown")
"""


@pytest.mark.parametrize(
    "how", ["(attempt", "asyncio.run(attempt_in_a_loop"], ids=["plain", "in a loop"]
)
def test_a_module_may(write: Write, how: str) -> None:
    """
    Afterwards the process is as it was: its folder, output, handlers and loggers; also
    where the import happens within a running loop.
    """
    files = [write(f"m{n}.py", each, f"m{n}") for n, each in enumerate(WORKS.values())]
    ended = python(STATE.format(how=how), *files)
    state = f"{ROOT} 0 <built-in function default_int_handler>"
    roles = [f"m{n}" for n in range(len(files))]
    expected = []
    for n in range(len(files)):
        expected += [f"roles {' '.join(roles[: n + 1])}", state]
    assert ended.stdout.splitlines() == expected
    assert ended.stderr.count("ours told") == len(files)
    assert ended.stderr.count("loud") == 3
    assert "theirs" not in ended.stderr
    assert "not shown" not in ended.stderr


REFUSED = {
    "sys.exit(0)": "it calls sys.exit(0) when imported ({file}:7); put",
    "sys.exit()": "it calls sys.exit(None) when imported ({file}:7)",
    "os._exit(0)": "it ends its process with os._exit(0) when imported ({file}:7)",
    "1 / 0": "ZeroDivisionError: division by zero ({file}:7)",
    "input()": "it waits for input when imported, and nobody is there",
    "raise KeyboardInterrupt": "KeyboardInterrupt ({file}:7)",
    "raise asyncio.CancelledError": "CancelledError ({file}:7)",
    "raise Odd": "Odd: (its text cannot be shown) ({file}:7)",
    "raise ValueError('a\\nb' * 999)": "ValueError: a b",
    "def": "SyntaxError: invalid syntax ({file}:7)",
    "outlast.Policy(failures=0)": "Policy: failures: Input should be greater than or",
    "outlast.Policy(limit=1)": "Policy: limit: Extra inputs are not permitted ({file}",
    "import nowhere": "ModuleNotFoundError: No module named 'nowhere' ({file}:7)",
    "json.loads('no')": "JSONDecodeError: Expecting value",
    "time.sleep(30)": "its import has not ended after 0.3 s ({file}:7); do slow work",
    "while True: pass": "its import has not ended after 0.3 s ({file}:7)",
}


def test_a_module_is_refused_in_one_sentence(write: Write) -> None:
    """
    It names the module and the line, whatever was raised, and the process goes on. The
    second time too: half a module would be taken for the whole.
    """
    head = "import asyncio, json, os, outlast, sys, time\n\n\n\n\n"
    odd = "class Odd(BaseException): __str__ = None\n"
    files = [write(f"{n}.py") for n in range(len(REFUSED))]
    for path, line in zip(files, REFUSED, strict=True):
        path.write_text(f"{head}{odd}{line}\n")
    code = "importing.IMPORT_LIMIT_S = 0.3\nfor name in sys.argv[1:]: attempt(name)"
    told = python(code, *files, files[3]).stdout.splitlines()
    assert told[-1] == told[3]
    for path, said, why in zip(files, told, REFUSED.values(), strict=False):
        assert said.startswith(f"refused agents in {str(path)!r} cannot load: ")
        assert why.format(file=path) in said


def test_siblings_are_found(write: Write) -> None:
    """
    A helper beside the file is imported by its name, and a package's by a dot.
    """
    write("beside.py", "X = 1").write_text("X = 1")
    write("pkg/__init__.py").write_text("")
    write("pkg/within.py").write_text("Y = 1")
    first = write("first.py", "from beside import X", "first")
    second = write("pkg/second.py", "from .within import Y", "second")
    assert loaded(first, second) == ["roles first second"]


def test_an_agent_that_a_sibling_imports_is_one_agent(write: Write) -> None:
    """
    In whatever order the two are registered_agents.
    """
    one = write("one.py", "", "one")
    two = write("two.py", "from one import plays as other", "two")
    assert loaded(one, two) == ["roles one two"]
    assert loaded(two, one) == ["roles two one"]


def test_files_of_one_name_are_two_modules(write: Write) -> None:
    """
    And both are importable by the processes that they spawn.
    """
    first, second = write("a/mine.py", "", "first"), write("b/mine.py", "", "second")
    after = """
from outlast.agents.registry import registered_agents
print(*(each.func.__module__ for each in registered_agents().values()))
"""
    told = loaded(first, second, after=after)
    assert told == ["roles first second", "mine b.mine"]


def test_a_name_of_the_standard_library_is_not_taken(write: Write) -> None:
    """
    A file called calendar.py is registered_agents, and the library's stays what it is.
    """
    path = write("calendar.py", "", "mine")
    after = "import calendar; print(calendar.monthrange.__module__)"
    told = loaded(path, after=after)
    assert told == ["roles mine", "calendar"]


def test_siblings_of_one_name_are_refused(write: Write) -> None:
    """
    The second would get the first one's helper, and nobody would know.
    """
    for folder in "ab":
        write(f"{folder}/helper.py").write_text("")
    first = write("a/first.py", "import helper", "first")
    second = write("b/second.py", "import helper", "second")
    (told,) = loaded(first, second)
    assert told.startswith(f"refused {second} imports 'helper' from")
    assert str(first.parent / "helper.py") in told


def test_a_spawned_process_finds_the_module(write: Write) -> None:
    """
    What it was sent names the agents' file as its module.
    """
    path = write("mine.py", "def square(x): return x * x")
    after = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
spawn = multiprocessing.get_context("spawn")
with ProcessPoolExecutor(1, spawn) as pool:
    print(*pool.map(sys.modules["mine"].square, [1, 2]))
"""
    told = loaded(path, after=after)
    assert told == ["roles mine", "1 4"]


NAMES = ("activities", "workflows", "worker", "starter", "drills")


@pytest.mark.parametrize("name", NAMES)
def test_a_project_may_have_the_names_of_a_checkout(write: Write, name: str) -> None:
    """
    Ours are searched last: a user's own module of that name is found.
    """
    mine = write("shop/agents.py", f"from {name} import charge")
    (mine.parent / f"{name}.py").write_text("charge = 7\n")
    told = loaded(mine, after="import agents; print(agents.charge)")
    assert told == ["roles mine", "7"]
