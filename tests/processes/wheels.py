"""
The wheel of this checkout, and an environment that has nothing else of it.
"""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.processes import PROJECT_FOLDER, CommandResult

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
LIMIT_S = 90


def build(folder: Path) -> Path:
    """
    Build the wheel into *folder*.
    """
    made = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    # Elsewhere: what setuptools leaves beside the sources would be found by others.
    copy = folder / "sources"
    without = ("--exclude=.git", "--exclude=.venv", "--exclude=.outlast*")
    copy.mkdir()
    tar = ["tar", "-c", *without, "-C", str(PROJECT_FOLDER), "."]
    packed = subprocess.run(tar, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(copy)], input=packed, check=True)
    subprocess.run([*PIP, *made, str(copy)], check=True, timeout=LIMIT_S)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass
class Environment:
    """
    A virtual environment with the wheel, and the libraries of the one that runs us.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path) -> "Environment":
        made = cls(folder)
        venv = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(venv, check=True, timeout=LIMIT_S)
        python = str(made.program("python"))
        install = [*PIP, "--python", python, "install", "--no-deps", str(wheel)]
        subprocess.run(install, check=True, timeout=LIMIT_S)
        ours = Path(sysconfig.get_path("purelib"))
        (made.packages / "libraries.pth").write_text(f"{ours}\n")
        made.program("temporal").symlink_to(Path(sys.executable).parent / "temporal")
        return made

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def variables(self, home: Path, **more: str) -> dict[str, str]:
        """
        Give the environment of a person who has only this one, and a fresh home.
        """
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TEMPORAL_", "OUTLAST_", "PYTHON"))
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        ours = {"HOME": str(home), "PATH": path, "VIRTUAL_ENV": str(self.folder)}
        return {**plain, **ours, **more}

    def run(self, folder: Path, *command: str, **more: str) -> CommandResult:
        """
        Run one of its programs in *folder* to its end.
        """
        ended = subprocess.run(
            [self.program(command[0]), *command[1:]],
            cwd=folder,
            env=self.variables(folder, **more),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return CommandResult(ended.returncode, ended.stdout, ended.stderr)

    def start(self, folder: Path, *command: str, **more: str) -> Any:
        """
        Start one of its programs in *folder* and leave it running.
        """
        return subprocess.Popen(
            [self.program(command[0]), *command[1:]],
            cwd=folder,
            env=self.variables(folder, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
