"""
The health endpoint: what it answers, whom, and that nobody holds it.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.fleet import http_listener
from outlast.fleet.health_http import HealthServer
from outlast.fleet.http_listener import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    is_own_host,
    read,
)

BOUND_S = 5.0
LOOPBACK = "127.0.0.1"


def snapshot() -> dict[str, Any]:
    counts = {"heartbeats": 0, "parked": 0, "dead_tasks": 0, "dead_items": 0}
    counts |= {"recoveries": {}, "breakers": {}}
    plain = {"restarts": 0, "reported": 0, "watchdog_kills": 0}
    return {"ready": False, "processes": [], "counts": counts, **plain}


@pytest.fixture
def health() -> Iterator[HealthServer]:
    made = HealthServer(snapshot, LOOPBACK, 0)
    yield made
    made.close()


def port_of(health: HealthServer) -> int:
    return int(health.url.split(":")[2].split("/")[0])


def ask(health: HealthServer, raw: bytes) -> bytes:
    """
    Send *raw* and read to the end.
    """
    where = LOOPBACK, port_of(health)
    with socket.create_connection(where, timeout=BOUND_S) as line:
        line.sendall(raw)
        got = b""
        while more := line.recv(65536):
            got += more
    return got


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("path", "code"),
    [("/live", 200), ("/ready", 503), ("/health", 200), ("/nothing", 404)],
)
def test_each_page_is_served(health: HealthServer, path: str, code: int) -> None:
    """
    With its length, and the connection closed after it.
    """
    answer = ask(health, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert status(answer) == code
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    if path == "/health":
        assert json.loads(body) == snapshot()


def asking(*lines: str, first: str = "GET /health HTTP/1.1") -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (asking("Host: localhost"), "/health"),
        (asking("hOsT:  LOCALHOST:9464 "), "/health"),
        (asking("Host: 127.0.0.1:1"), "/health"),
        (asking("Host: [::1]:9464"), "/health"),
        (asking(first="GET /live?x=1 HTTP/1.0"), "/live"),
        (b"GET /live HTTP/1.0\n\n", "/live"),
        (asking("Host: evil.example"), 421),
        (asking("Host: evil.example:9464"), 421),
        (asking("Host: localhost.evil.example"), 421),
        (asking("Host: 127.0.0.1.evil.example"), 421),
        (asking("Host: localhost@evil.example"), 421),
        (asking("Host: 10.0.0.5"), 421),
        (asking("Host: evil.example", first="GET /live HTTP/1.0"), 421),
        (asking("Host:"), 421),
        (asking("Host: localhost", "Host: evil.example"), 400),
        (asking(), 400),
        (asking("Host: localhost", first="POST /health HTTP/1.1"), 405),
        (asking("Host: localhost", first="DELETE / HTTP/1.1"), 405),
        (asking("Host: localhost", first="HEAD /live HTTP/1.1"), 405),
        (asking("Host: localhost", first="GET /live HTTP/2.0"), 400),
        (asking("Host: localhost", first="GET /live"), 400),
        (b"\0\1\2\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (asking("X: " + "y" * MAX_HEAD_BYTES), 431),
    ],
)
def test_who_asks_properly_by_a_name_of_ours_is_answered(
    head: bytes, found: str | int
) -> None:
    """
    A page in a browser that was led here by its own DNS gets nothing.
    """
    assert read(head, LOOPBACK) == found


@pytest.mark.parametrize(
    ("host", "bound", "here"),
    [
        ("10.0.0.5:9464", "0.0.0.0", True),
        ("[fd00::5]:9464", "::", True),
        (socket.gethostname(), "0.0.0.0", True),
        ("worker", "worker", True),
        ("evil.example", "0.0.0.0", False),
        ("10.0.0.5", "localhost", False),
        ("localhost", "10.0.0.5", True),
    ],
)
def test_where_others_may_ask_they_ask_by_address(
    host: str, bound: str, here: bool
) -> None:
    """
    Prometheus and probes do; no DNS makes an address of a name.
    """
    assert is_own_host(host, bound) is here


def test_a_long_request_is_refused_before_it_ends(health: HealthServer) -> None:
    """
    The answer arrives though the client has not stopped to send.
    """
    answer = ask(health, b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n")
    assert status(answer) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


def test_idle_connections_hold_nobody_up(health: HealthServer) -> None:
    """
    Hundreds of them: a few files, no threads, and a probe is answered all the while.
    """
    threads = threading.active_count()
    where = LOOPBACK, port_of(health)
    idle = [socket.create_connection(where, timeout=BOUND_S) for _ in range(200)]
    try:
        for each in idle[:100]:
            each.send(b"GET /live HTTP/1.1\r\nX: ")
    except OSError:
        pass  # it was closed for one that came later
    began = time.monotonic()
    assert status(ask(health, b"GET /live HTTP/1.0\r\n\r\n")) == 200
    assert time.monotonic() - began < 1.0
    assert len(health._listener._open) <= MAX_CONNECTIONS
    assert threading.active_count() == threads
    for each in idle:
        each.close()


def test_a_slow_request_has_an_end(
    health: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each byte does not win it more time.
    """
    monkeypatch.setattr(http_listener, "HTTP_LIMIT_S", 0.3)
    with socket.create_connection((LOOPBACK, port_of(health)), timeout=BOUND_S) as line:
        began = time.monotonic()
        try:
            while time.monotonic() - began < BOUND_S:
                line.send(b"x")
                time.sleep(0.02)
        except OSError:
            pass
    assert 0.2 < time.monotonic() - began < 2.0


def test_a_page_that_fails_does_not_end_the_server() -> None:
    """
    The next request is served.
    """
    told = iter([ValueError("not yet")])

    def once_broken() -> dict[str, Any]:
        for each in told:
            raise each
        return snapshot()

    made = HealthServer(once_broken, LOOPBACK, 0)
    try:
        assert ask(made, b"GET /live HTTP/1.0\r\n\r\n") == b""
        assert status(ask(made, b"GET /live HTTP/1.0\r\n\r\n")) == 200
    finally:
        made.close()


def test_a_port_in_use_is_one_sentence(health: HealthServer) -> None:
    """
    Also one that is none.
    """
    for port in (port_of(health), 70_000):
        with pytest.raises(BadInputError) as refused:
            HealthServer(snapshot, LOOPBACK, port)
        assert "health cannot listen" in told_in_one_sentence(refused.value)


def test_a_closed_one_listens_no_more() -> None:
    """
    Nor does it leave its thread.
    """
    threads = threading.active_count()
    made = HealthServer(snapshot, LOOPBACK, 0)
    port = port_of(made)
    made.close()
    assert threading.active_count() == threads
    with pytest.raises(OSError):  # noqa: PT011 - refused, by whatever number
        socket.create_connection((LOOPBACK, port), timeout=1)
