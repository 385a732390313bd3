"""
What the errors of real client libraries say of a service, met on real sockets.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import openai
import psycopg
import pytest
import requests
import sqlalchemy as sa

from outlast.execution.service_failures import (
    Fault,
    ServiceFailure,
    classify_service_failure,
    was_not_sent,
)

QUICK_S = 0.3
Server = Callable[[bytes | None], str]


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """
    A port that answers each connection with *answer*, resets it if that is empty, and
    says nothing if it is None.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                if answer is None:
                    continue
                connection.recv(65536)
                if not answer:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in kept:
            each.close()
        thread.join()


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} So", "Content-Length: 2", *headers, "", "{}"]
    return "\r\n".join(lines).encode()


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def by_httpx(url: str) -> None:
    httpx.get(url, timeout=QUICK_S, trust_env=False).raise_for_status()


def by_requests(url: str) -> None:
    session = requests.Session()
    session.trust_env = False
    session.get(url, timeout=QUICK_S).raise_for_status()


def by_openai(url: str) -> None:
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=QUICK_S)
    client.models.list()


CLIENTS = [by_httpx, by_requests, by_openai]


def failure(ask: Callable[[str], None], url: str) -> ServiceFailure | None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any library's own
        ask(url)
    return classify_service_failure(caught.value)


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_refused_connection_was_not_sent(ask: Callable[[str], None]) -> None:
    """
    The service's failure, and nothing can have happened there.
    """
    found = failure(ask, f"http://127.0.0.1:{refused_port()}")
    assert found == ServiceFailure(Fault.SERVICE, sent=False)


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_name_that_is_not_known_was_not_sent(ask: Callable[[str], None]) -> None:
    """
    Neither was what waits for an address.
    """
    found = failure(ask, "http://nowhere.invalid")
    assert found == ServiceFailure(Fault.SERVICE, sent=False)


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize("answer", [b"", None], ids=["reset", "silent"])
def test_a_broken_or_silent_answer_may_have_been_sent(
    ask: Callable[[str], None], answer: bytes | None
) -> None:
    """
    The service's failure; what was asked of it may have happened.
    """
    with answering(answer) as port:
        found = failure(ask, f"http://127.0.0.1:{port}")
    assert found == ServiceFailure(Fault.SERVICE)


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        *((code, Fault.SERVICE) for code in (408, 429, 500, 502, 503, 504, 529)),
        *((code, Fault.ACCESS) for code in (401, 402, 403)),
        *((code, Fault.REQUEST) for code in (400, 404, 409, 422)),
    ],
)
def test_a_status_says_whose_fault_it_is(
    ask: Callable[[str], None], code: int, fault: Fault
) -> None:
    """
    The service's, the key's or the request's.
    """
    with answering(status(code)) as port:
        found = failure(ask, f"http://127.0.0.1:{port}")
    assert found == ServiceFailure(fault)


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_service_says_when_it_may_be_asked_again(ask: Callable[[str], None]) -> None:
    """
    `Retry-After` in seconds is read; a date is not.
    """
    for value, read in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
        with answering(status(429, f"Retry-After: {value}")) as port:
            found = failure(ask, f"http://127.0.0.1:{port}")
        assert found == ServiceFailure(Fault.SERVICE, retry_after_s=read)


def test_a_full_pool_was_not_sent() -> None:
    """
    A request that waited for a connection in vain never left.
    """
    limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(1, pool=0.05)
    with (
        answering(None) as port,
        httpx.Client(limits=limits, timeout=timeout) as client,
    ):
        url = f"http://127.0.0.1:{port}"
        first = threading.Thread(target=failure, args=(client.get, url))
        first.start()
        while not client._transport._pool.connections:
            first.join(0.01)
        found = failure(client.get, url)
        first.join()
    assert found == ServiceFailure(Fault.SERVICE, sent=False)


def test_databases_tell_a_refused_connection_from_a_refused_statement() -> None:
    """
    A server that is away has failed; a statement that it refuses is the agent's own.
    """
    url = f"postgresql+psycopg://me@127.0.0.1:{refused_port()}/db"
    with pytest.raises(sa.exc.OperationalError) as away:
        sa.create_engine(url).connect()
    found = classify_service_failure(away.value)
    assert found is not None
    assert found.fault is Fault.SERVICE
    with pytest.raises(sa.exc.ProgrammingError) as wrong:
        raise sa.exc.ProgrammingError("SELECT", {}, psycopg.errors.UndefinedTable("t"))
    assert classify_service_failure(wrong.value) is None


def test_what_an_agent_raises_by_itself_says_nothing() -> None:
    """
    A bug is the agent's, also one that was raised while a call was handled.
    """
    assert classify_service_failure(ValueError("no total")) is None
    assert classify_service_failure(KeyError("total")) is None
    assert classify_service_failure(FileNotFoundError("a.txt")) is None


def test_errors_are_looked_through_to_their_causes() -> None:
    """
    A wrapper of the agent's own keeps what it was raised from.
    """

    def place(url: str) -> None:
        try:
            by_httpx(url)
        except httpx.HTTPError as error:
            raise RuntimeError("the order could not be placed") from error

    found = failure(place, f"http://127.0.0.1:{refused_port()}")
    assert found == ServiceFailure(Fault.SERVICE, sent=False)


def test_a_circle_of_causes_ends() -> None:
    """
    Errors may name each other.
    """
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert classify_service_failure(one) is None


def test_a_classifier_of_the_projects_own_is_asked_first() -> None:
    """
    For a client library that is not known here.
    """

    def mine(error: BaseException) -> ServiceFailure | None:
        return ServiceFailure(Fault.ACCESS) if isinstance(error, ValueError) else None

    found = classify_service_failure(ValueError("expired"), (mine,))
    assert found == ServiceFailure(Fault.ACCESS)


def test_of_several_tries_one_may_have_been_sent() -> None:
    """
    A refused connection after a time-out, or before one, leaves what was asked unsure.
    """

    def ask_twice(first: BaseException, second: BaseException) -> BaseException:
        second.__context__ = first
        return second

    refused, silent = httpx.ConnectError("refused"), httpx.ReadTimeout("silent")
    assert not was_not_sent(ask_twice(silent, refused))
    refused, silent = httpx.ConnectError("refused"), httpx.ReadTimeout("silent")
    assert not was_not_sent(ask_twice(refused, silent))
    once, again = httpx.ConnectError("refused"), httpx.ConnectError("refused")
    assert was_not_sent(ask_twice(once, again))
