"""
docs/tutorial.md as a reader types it: in one shell, with what pip has installed.
"""

import doctest
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from wheels import build

from testkit.processes import PROJECT_FOLDER

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

BLOCK = re.compile(r"^```(sh|text|python|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
END = "--- typed:"


class Reader:
    """
    A shell, and what its last commands have printed.
    """

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.printed = ""
        self.shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=_environment(folder, wheels),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, commands: str) -> None:
        """
        Type *commands*, with the process id that was shown last in the place of PID.
        """
        if "PID" in commands:
            last = re.findall(r"pid (\d+)", self.printed)[-1]
            commands = commands.replace("PID", last)
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        end = f'echo; echo "{END} $? $PWD"'
        self.shell.stdin.write(f"{{\n{commands}}}; {end}\n")
        self.shell.stdin.flush()
        said = []
        for line in self.shell.stdout:
            if line.startswith(END):
                break
            said.append(line)
        self.printed = "".join(said)
        code, where = line.removeprefix(END).split(maxsplit=1)
        assert code == "0", f"{commands}{self.printed}"
        self.folder = Path(where.strip())

    def write(self, file: str) -> None:
        """
        Write *file*, which begins with a comment that names it.
        """
        name = file.splitlines()[0].removeprefix("# ")
        (self.folder / name).write_text(file)

    def see(self, wanted: str) -> None:
        """
        Compare what was printed with what the page shows.
        """
        same = doctest.OutputChecker().check_output(
            wanted, self.printed.rstrip() + "\n", doctest.ELLIPSIS
        )
        assert same, f"the page shows:\n{wanted}\nbut this was printed:\n{self.printed}"

    def leave(self) -> None:
        """
        End the shell, and what it has left running.
        """
        for stream in (self.shell.stdin, self.shell.stdout):
            assert stream is not None
            stream.close()
        os.killpg(self.shell.pid, signal.SIGTERM)
        self.shell.wait(20)


def _environment(folder: Path, wheels: Path) -> dict[str, str]:
    """
    Give what a person has who can install nothing but our wheel: the libraries that it
    needs are there already.
    """
    ours = ("TEMPORAL_", "OUTLAST_", "PYTHON", "PYTEST_", "COV_")
    plain = {
        name: each for name, each in os.environ.items() if not name.startswith(ours)
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    libraries = sysconfig.get_path("purelib")
    return {**plain, **pip, "HOME": str(folder), "PATH": path, "PYTHONPATH": libraries}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    build(wheels)
    (tmp_path / "reader").mkdir()
    made = Reader(tmp_path / "reader", wheels)
    try:
        yield made
    finally:
        made.leave()


def test_the_tutorial_is_what_happens(reader: Reader) -> None:
    """
    Each command ends well and prints what the page shows, the kill included.
    """
    page = (PROJECT_FOLDER / "docs" / "tutorial.md").read_text()
    does = {"sh": reader.type, "text": reader.see}
    for kind, text in BLOCK.findall(page):
        does.get(kind, reader.write)(text)
    reader.type("wait\n")
