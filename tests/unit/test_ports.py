"""
Where the embedded server listens, and that it is started again.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError, PortTakenError, UnavailableError
from outlast.dev import ports as ports_module
from outlast.dev import server as server_module
from outlast.dev.locks import lock_port
from outlast.dev.ports import DEV_HOST, FREE_PORTS, choose_ports, free_port
from outlast.dev.server import DevServer, start_server

BOUND_S = 20.0
# Listens where the embedded server would, or fails as it does when it cannot.
LISTENING = """
import signal, socket, sys
made = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""


@pytest.fixture
def occupied() -> Iterator[Callable[[], int]]:
    """
    Occupies a port of this machine, for as long as the test runs.
    """
    sockets: list[socket.socket] = []

    def occupy() -> int:
        made = socket.socket()
        sockets.append(made)
        made.bind((DEV_HOST, 0))
        made.listen()
        return int(made.getsockname()[1])

    yield occupy
    for each in sockets:
        each.close()


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """
    Two free ports as the usual ones, so that no server here is in the way.
    """
    ports = free_port(), free_port()
    monkeypatch.setattr(ports_module, "DEV_PORT", ports[0])
    monkeypatch.setattr(ports_module, "DEV_UI_PORT", ports[1])
    return ports


def test_the_usual_ports_are_taken_when_they_are_free(usual: tuple[int, int]) -> None:
    """
    Whoever asks for nothing gets what the documentation says.
    """
    assert choose_ports(None, None) == usual


def test_other_ports_are_taken_when_the_usual_ones_are_in_use(
    occupied: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A second server on one machine finds free ports by itself.
    """
    used = {occupied(), occupied()}
    port, ui_port = used
    monkeypatch.setattr(ports_module, "DEV_PORT", port)
    monkeypatch.setattr(ports_module, "DEV_UI_PORT", ui_port)
    chosen = choose_ports(None, None)
    assert not used & set(chosen)
    assert chosen[0] != chosen[1]


def test_asked_ports_are_taken(usual: tuple[int, int]) -> None:
    """
    What is asked for and free is used.
    """
    asked = free_port(), free_port()
    assert choose_ports(*asked) == asked


@pytest.mark.parametrize("which", [0, 1], ids=["server", "ui"])
def test_an_asked_port_in_use_is_refused(
    usual: tuple[int, int], occupied: Callable[[], int], which: int
) -> None:
    """
    Another one than asked for would not be found by whoever asked.
    """
    used = occupied()
    asked = (used, None) if which == 0 else (None, used)
    with pytest.raises(BadInputError) as refusal:
        choose_ports(*asked)
    told = told_in_one_sentence(refusal.value)
    assert told == f"port {used} is in use; choose another one"


@pytest.mark.parametrize("port", [0, -1, 65_536, 10**9])
@pytest.mark.parametrize("which", [0, 1], ids=["server", "ui"])
def test_a_port_out_of_range_is_refused(
    usual: tuple[int, int], port: int, which: int
) -> None:
    """
    The sentence says between what a port is.
    """
    asked = (port, None) if which == 0 else (None, port)
    with pytest.raises(BadInputError) as refusal:
        choose_ports(*asked)
    told = told_in_one_sentence(refusal.value)
    assert told == f"port {port} is not between 1 and 65535; choose another one"


def test_one_port_for_both_is_refused(usual: tuple[int, int]) -> None:
    """
    Server and Web UI cannot share one.
    """
    port = free_port()
    with pytest.raises(BadInputError):
        choose_ports(port, port)


def test_the_ui_makes_room_for_an_asked_port(usual: tuple[int, int]) -> None:
    """
    Who puts the server on the UI's usual port gets the UI somewhere else.
    """
    port, ui_port = choose_ports(usual[1], None)
    assert port == usual[1]
    assert ui_port != port


def test_the_server_makes_room_for_an_asked_ui_port(usual: tuple[int, int]) -> None:
    """
    Who puts the UI on the server's usual port gets the server somewhere else.
    """
    port, ui_port = choose_ports(None, usual[0])
    assert ui_port == usual[0]
    assert port != ui_port


class Failing(DevServer):
    """
    A server whose program ends at once, however often it is started.
    """

    starts = 0
    enough = 3

    def _command(self) -> list[str]:
        self.starts += 1
        if self.starts == self.enough:
            self.tried.set()
        return ["false"]

    async def fail_once(self) -> None:
        self.tried = asyncio.Event()
        with pytest.raises(UnavailableError):
            await self.start()


async def test_a_server_that_does_not_start_says_where_to_look(tmp_path: Path) -> None:
    """
    The sentence names the log.
    """
    server = Failing(tmp_path, free_port(), free_port())
    server.tried = asyncio.Event()
    with pytest.raises(UnavailableError) as refusal:
        await server.start()
    assert str(tmp_path / "server.log") in told_in_one_sentence(refusal.value)


async def test_a_restart_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A server that died unasked is started until it stands, not once.
    """
    monkeypatch.setattr(server_module, "SERVER_RESTART_S", 0.0)
    monkeypatch.setattr(server_module, "MAX_SERVER_RESTART_S", 0.0)
    server = Failing(tmp_path, free_port(), free_port())
    await server.fail_once()
    server.process = dead()
    keeping = asyncio.ensure_future(server.supervise())
    try:
        await asyncio.wait_for(server.tried.wait(), 1.0)
    finally:
        keeping.cancel()
    assert server.starts >= server.enough


class Dead:
    """
    Stands for a process that has died.
    """

    pid = -1

    def poll(self) -> int:
        return -9

    def terminate(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> int:
        return -9


def dead() -> Dead:
    return Dead()


def test_a_port_that_the_kernel_may_give_away_is_never_taken() -> None:
    """
    An inner port of another server took ours between its choice and its use.
    """
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert max(FREE_PORTS) < int(given[0])
    assert free_port() in FREE_PORTS


async def test_a_server_does_not_take_somebody_else_for_itself(
    tmp_path: Path, occupied: Callable[[], int]
) -> None:
    """
    Who answers on its port before it was started is not it.
    """
    server = DevServer(tmp_path, occupied(), free_port())
    with pytest.raises(UnavailableError, match="somebody else"):
        await server.start()
    assert server.process is None


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Has servers run a small program in the place of Temporal's.
    """
    monkeypatch.setattr(
        DevServer,
        "_command",
        lambda server: [sys.executable, "-c", LISTENING, str(server.port)],
    )


async def test_of_several_started_at_once_each_has_a_server_of_its_own(
    usual: tuple[int, int], listening: None, tmp_path: Path
) -> None:
    """
    Whoever was not the first goes elsewhere, and takes no other's server for its own.
    """
    homes = [tmp_path / str(number) for number in range(4)]
    for each in homes:
        each.mkdir()
    starting = [start_server(each, None, None) for each in homes]
    async with asyncio.timeout(BOUND_S):
        servers = await asyncio.gather(*starting)
    try:
        ports = {port for each in servers for port in (each.port, each.ui_port)}
        assert len(ports) == 2 * len(servers)
        assert usual[0] in ports
        alive = [each.process and each.process.poll() is None for each in servers]
        assert all(alive)
    finally:
        for each in servers:
            each.stop()


async def test_a_port_is_chosen_again_once_its_server_is_stopped(
    usual: tuple[int, int], listening: None, tmp_path: Path
) -> None:
    """
    While a server lives, and while it is started again, its ports are nobody else's.
    """
    server = await start_server(tmp_path, None, None)
    try:
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        assert not set(usual) & set(choose_ports(None, None))
    finally:
        server.stop()
    assert choose_ports(None, None) == usual


async def test_an_asked_port_on_which_another_server_begins_is_refused(
    usual: tuple[int, int], tmp_path: Path
) -> None:
    """
    It does not listen yet, but it will before we do.
    """
    held = lock_port(usual[0])
    assert held is not None
    try:
        with pytest.raises(BadInputError, match="in use"):
            await start_server(tmp_path, usual[0], None)
    finally:
        os.close(held)


class Late(DevServer):
    """
    A server that somebody overtakes while it boots, and that notices it after *boot*.
    """

    boot = "exit 1"

    def _command(self) -> list[str]:
        self.somebody = socket.create_server((DEV_HOST, self.port))
        return ["sh", "-c", self.boot]


@pytest.mark.parametrize("boot", ["exit 1", "sleep 0.05; exit 1"])
async def test_a_server_that_was_overtaken_does_not_live_on_as_another(
    tmp_path: Path, boot: str
) -> None:
    """
    One that has ended has not started, whoever answers on its port.
    """
    server = Late(tmp_path, free_port(), free_port())
    server.boot = boot
    with pytest.raises(PortTakenError):
        await server.start()
    assert server.process is None
    server.stop()
    server.somebody.close()
