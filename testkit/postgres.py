"""
A real PostgreSQL of its own on loopback, to be stopped, killed and started again.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from outlast.dev.ports import free_port

USER = "outlast"
POSTGRES_START_LIMIT_S = 30.0
# Nothing here has to survive a loss of power; crashes of the server alone it does.
SETTINGS = {"fsync": "off", "max_connections": "200", "shared_buffers": "64MB"}


def find_postgres() -> Path | None:
    """
    Find the folder of PostgreSQL's programs, the newest first: Debian keeps them off
    the PATH.
    """
    own = shutil.which("initdb")
    if own is not None:
        return Path(own).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(packaged, key=lambda found: int(found.parts[-3]), default=None)
    return newest.parent if newest else None


@dataclass
class Postgres:
    """
    A server whose cluster lies in *folder*, with *programs* as `find_postgres` says.

    It refuses to run as root, so root starts it as the user `nobody`.
    """

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run("chown", "nobody", str(self.folder), owner=True)
        self._run(
            str(self.programs / "initdb"),
            *("--pgdata", str(self._data), "--username", USER),
            *("--auth", "trust", "--encoding", "UTF8", "--no-sync"),
        )

    def start(self) -> None:
        options = [f"-c {name}={value}" for name, value in SETTINGS.items()]
        options += [f"-p {self.port}", "-h 127.0.0.1", f"-k {self.folder}"]
        self._control("start", "--options", " ".join(options))

    def stop(self, mode: str = "fast") -> None:
        """
        End the server: `fast` ends every connection, `immediate` is a crash.
        """
        self._control("stop", "--mode", mode)

    def runs(self) -> bool:
        asked = [str(self.programs / "pg_isready"), "--quiet", "--dbname", self.url()]
        return subprocess.run(asked, check=False).returncode == 0

    def database(self) -> str:
        name = f"d{uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str, url: str | None = None) -> str:
        """
        Run one statement, in the database at *url* if one is given; returns what it
        printed.
        """
        psql = [str(self.programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only"]
        done = subprocess.run(
            [*psql, "--no-align", "--command", statement, url or self.url()],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _control(self, verb: str, *options: str) -> None:
        log = str(self.folder / "server.log")
        where = ["--pgdata", str(self._data), "--log", log, "--wait"]
        limit = ["--timeout", str(int(POSTGRES_START_LIMIT_S)), "--silent"]
        self._run(str(self.programs / "pg_ctl"), verb, *where, *limit, *options)

    def _run(self, *command: str, owner: bool = False) -> None:
        root = os.geteuid() == 0
        if owner and not root:
            return
        done = subprocess.run(
            command,
            user="nobody" if root and not owner else None,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
