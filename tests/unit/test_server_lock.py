"""
The lock of a home's server: held by the server's process itself, and by nobody else.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import UnavailableError
from outlast.dev import server_lock
from outlast.dev.locks import lock
from outlast.dev.ports import Ports, choose_ports, free_port
from outlast.dev.server import DevServer
from outlast.dev.server_lock import (
    SERVER_LOCK,
    LeftServer,
    clear_server_lock,
    end_left_server,
    exec_command,
    lock_server,
    ports_of_left,
)

PORTS = Ports(20_001, 20_002)
BOUND_S = 5.0
DEAF = "trap '' TERM; touch {}; while :; do sleep 0.02; done"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """
    Starts a process as a server of *tmp_path* is started, its owner dead at once.
    """
    made: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> subprocess.Popen[bytes]:
        held = lock_server(tmp_path, PORTS)
        process = subprocess.Popen(
            exec_command(tmp_path, list(command)),
            pass_fds=[held],
            start_new_session=True,
        )
        os.close(held)
        made.append(process)
        return process

    yield begin
    for each in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Has nobody wait for long.
    """
    monkeypatch.setattr(server_lock, "SERVER_TERM_LIMIT_S", 0.1)
    monkeypatch.setattr(server_lock, "NAME_LIMIT_S", 0.1)


def test_a_second_server_is_refused_while_the_first_lives(
    tmp_path: Path, start: Start
) -> None:
    """
    Not its owner's life counts, which is over, but its own.
    """
    first = start("sleep", "60")
    with pytest.raises(UnavailableError) as refusal:
        lock_server(tmp_path, PORTS)
    assert str(tmp_path) in told_in_one_sentence(refusal.value)
    first.kill()
    first.wait()
    os.close(lock_server(tmp_path, PORTS))


def test_a_server_that_is_left_is_ended(tmp_path: Path, start: Start) -> None:
    """
    The next owner hears which one it was, and has its ports again.
    """
    left = start("sleep", "60")
    assert end_left_server(tmp_path) == LeftServer(left.pid, PORTS.port)
    assert left.wait(timeout=BOUND_S) == -signal.SIGTERM
    assert ports_of_left(tmp_path) == PORTS
    assert end_left_server(tmp_path) is None


@pytest.mark.usefixtures("short")
def test_one_that_does_not_end_by_itself_is_killed(
    tmp_path: Path, start: Start
) -> None:
    """
    Frozen, deaf to SIGTERM, or with a child that holds the lock.
    """
    deaf = tmp_path / "deaf"
    left = start("sh", "-c", DEAF.format(deaf))
    deadline = time.monotonic() + BOUND_S
    while not deaf.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert end_left_server(tmp_path) is not None
    assert left.wait(timeout=BOUND_S) == -signal.SIGKILL


def test_a_process_that_has_a_dead_servers_number_is_left_alone(
    tmp_path: Path, start: Start
) -> None:
    """
    The number in the file counts only while the lock is held.
    """
    (tmp_path / SERVER_LOCK).write_text(f"{PORTS.port} {PORTS.ui_port}\n")
    innocent = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        with (tmp_path / SERVER_LOCK).open("a") as file:
            file.write(f"{innocent.pid}\n")
        assert end_left_server(tmp_path) is None
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.usefixtures("short")
def test_a_stranger_with_the_lock_is_named_and_not_touched(tmp_path: Path) -> None:
    """
    The sentence says how to find out who it is.
    """
    held = lock(tmp_path / SERVER_LOCK, fcntl.LOCK_EX)
    assert held is not None
    with pytest.raises(UnavailableError) as refusal:
        end_left_server(tmp_path)
    os.close(held)
    assert f"fuser {tmp_path / SERVER_LOCK}" in told_in_one_sentence(refusal.value)


@pytest.mark.parametrize("text", ["", "\n", "nonsense\n", "1\n", "1 2\nx\n"])
def test_a_file_that_makes_no_sense_names_nothing(tmp_path: Path, text: str) -> None:
    """
    Cut short by a full disk, or written by another release.
    """
    (tmp_path / SERVER_LOCK).write_text(text)
    assert end_left_server(tmp_path) is None
    assert ports_of_left(tmp_path) is None


def test_the_ports_of_a_killed_server_are_taken_again() -> None:
    """
    Its clients still look there.
    """
    before = Ports(free_port(), free_port())
    assert choose_ports(None, None, before) == before
    asked = free_port()
    assert choose_ports(asked, None, before) == Ports(asked, before.ui_port)


def test_a_good_stop_leaves_no_ports(tmp_path: Path) -> None:
    """
    The next one takes the usual ones.
    """
    os.close(lock_server(tmp_path, PORTS))
    assert ports_of_left(tmp_path) == PORTS
    clear_server_lock(tmp_path)
    assert ports_of_left(tmp_path) is None


class Two(DevServer):
    """
    A server that listens at once.
    """

    def _command(self) -> list[str]:
        program = (
            "import socket, signal, sys;"
            "made = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
            "signal.pause()"
        )
        return ["python3", "-c", program, str(self.port)]


async def test_two_servers_of_one_home_never_run_at_once(tmp_path: Path) -> None:
    """
    Neither has a way to know of the other but the lock: their ports differ.
    """
    servers = [Two(tmp_path, free_port(), free_port()) for _ in range(2)]
    ends = await asyncio.gather(
        *(each.start() for each in servers), return_exceptions=True
    )
    try:
        refused = [each for each in ends if each is not None]
        assert [type(each) for each in refused] == [UnavailableError]
    finally:
        for each in servers:
            each.stop()
