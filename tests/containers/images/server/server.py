"""
Run the embedded Temporal server in the place of the one that has a database.

Its own database file is kept in PostgreSQL from the end of one container to the start
of the next, so that `down` and `up` find what the real server would find there.
"""

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

FILE = Path("/tmp/temporal.db")
SERVER = ("temporal", "server", "start-dev", "--headless", "--ip", "0.0.0.0")
PORTS = ("--port", "7233", "--http-port", "7243")


def psql(*commands: str) -> str:
    where = ["--host", os.environ["POSTGRES_SEEDS"], "--dbname", os.environ["DBNAME"]]
    asked = [part for each in commands for part in ("--command", each)]
    return subprocess.run(
        ["psql", "-v", "ON_ERROR_STOP=1", "-qAtw", *where, *asked],
        env={
            **os.environ,
            "PGUSER": os.environ["POSTGRES_USER"],
            "PGPASSWORD": os.environ["POSTGRES_PWD"],
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()


def load() -> None:
    psql("CREATE TABLE IF NOT EXISTS kept (file oid)")
    if oid := psql("SELECT file FROM kept"):
        psql(f"\\lo_export {oid} {FILE}")


def save() -> None:
    psql(
        "SELECT lo_unlink(file) FROM kept",
        "DELETE FROM kept",
        f"\\lo_import {FILE}",
        "INSERT INTO kept SELECT max(oid) FROM pg_largeobject_metadata",
    )


def settings() -> list[str]:
    """
    Read the dynamic configuration: `key:` lines, each with one `- value: X` below it.
    """
    lines = Path(os.environ["DYNAMIC_CONFIG_FILE_PATH"]).read_text().split("\n")
    found, key = [], ""
    for line in (each.strip() for each in lines):
        if line.startswith("- value: "):
            value = line.removeprefix("- value: ")
            plain = value in ("true", "false") or value.isdigit()
            text = value if plain else f'"{value}"'
            found += ["--dynamic-config-value", f"{key}={text}"]
        elif line and not line.startswith("#"):
            key = line.rstrip(":")
    return found


def main() -> None:
    load()
    server = subprocess.Popen(
        [*SERVER, *PORTS, "--db-filename", str(FILE), *settings()]
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.terminate()

    signal.signal(signal.SIGTERM, stop)
    server.wait()
    save()


main()
