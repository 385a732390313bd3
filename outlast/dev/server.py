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
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from outlast.contracts.errors import PortTakenError, UnavailableError
from outlast.dev.locks import lock_port
from outlast.dev.ports import DEV_HOST, Ports, choose_ports, is_listening
from outlast.dev.server_command import server_command, server_environment
from outlast.dev.server_lock import (
    clear_server_lock,
    end_left_server,
    exec_command,
    lock_server,
    ports_of_left,
)
from outlast.process.home import require_short
from outlast.store.private import close_to_others, open_private

logger = logging.getLogger("outlast.process")

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
                    env=server_environment(),
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
        return server_command(self._database, self.port, self.ui_port)


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
