"""
A small HTTP server that nobody can hold: it answers GET, once for each connection.

Anybody on the machine may connect and stay. A connection has a few seconds and a few
kilobytes to ask in; of too many the oldest is closed, so that a client that asks at
once is answered however many others wait. A name that leads here by somebody
else's DNS (rebinding) is refused: a page in a browser could read us by it.
"""

import asyncio
import ipaddress
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

# Each is a file of the fleet's parent, which needs some to start a process.
MAX_CONNECTIONS = 16
HTTP_LIMIT_S = 5.0  # from the connection to the last byte of the answer
MAX_HEAD_BYTES = 8 * 1024
BACKLOG = 128

_REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.([01])")
_HOST_HEADER = re.compile(r"\[([^\]]+)\](?::\d*)?|([^:]+)(?::\d*)?")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Response:
    """
    An answer: its status, and a body of the MIME type *kind*.
    """

    status: int
    kind: str
    body: bytes

    def encode(self) -> bytes:
        head = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        ]
        return "\r\n".join([*head, "", ""]).encode() + self.body


Page = Callable[[str], Response]  # of a path


class HttpListener:
    """
    Serves *page* at *host* and *port* in a thread of its own.

    :param port: 0 for any free one.
    :raises OSError, OverflowError: when it cannot listen there.
    """

    def __init__(self, page: Page, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._respond = partial(respond, page, host)
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._stop = asyncio.Event()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _serve(self) -> None:
        with self._runner:  # which cancels what is still open
            self._runner.run(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(
            self._connected, sock=self._socket, backlog=BACKLOG
        )
        await self._stop.wait()
        server.close()

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open[writer] = None
        if len(self._open) > MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(HTTP_LIMIT_S):
                    await self._answer(reader, writer)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = b""
        while len(head) <= MAX_HEAD_BYTES and not _HEAD_END.search(head):
            more = await reader.read(MAX_HEAD_BYTES)
            if not more:
                return
            head += more
        writer.write(self._respond(head).encode())
        writer.write_eof()
        while await reader.read(MAX_HEAD_BYTES):
            pass  # read and dropped: a reset could take the answer along


def respond(page: Page, bound: str, head: bytes) -> Response:
    """
    Answer the request that begins with *head*, at a server bound to the host *bound*.
    """
    asked = read(head, bound)
    if isinstance(asked, str):
        return page(asked)
    told = f"{asked} {asked.phrase}\n"
    if asked is HTTPStatus.MISDIRECTED_REQUEST:
        told = f"{asked} {asked.phrase}: ask by an address, or by localhost\n"
    return Response(asked, "text/plain", told.encode())


def read(head: bytes, bound: str) -> str | HTTPStatus:
    """
    Read the path of a request, or the status that refuses it.
    """
    if len(head) > MAX_HEAD_BYTES:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    text = _HEAD_END.split(head, maxsplit=1)[0].decode("latin-1")
    line, *fields = re.split(r"\r?\n", text)
    asking = _REQUEST_LINE.fullmatch(line)
    if asking is None:
        return HTTPStatus.BAD_REQUEST
    method, path, minor = asking.groups()
    named = [each.partition(":") for each in fields]
    hosts = [value.strip() for name, _, value in named if name.lower() == "host"]
    if len(hosts) > 1 or (minor == "1" and not hosts):
        return HTTPStatus.BAD_REQUEST
    if hosts and not is_own_host(hosts[0], bound):
        return HTTPStatus.MISDIRECTED_REQUEST
    if method != "GET":
        return HTTPStatus.METHOD_NOT_ALLOWED
    return path.partition("?")[0]


def is_own_host(host: str, bound: str) -> bool:
    """
    Whether the Host header *host* means this server, bound to *bound*: a loopback name,
    *bound* itself or, where the server is open to others, any address or this machine's
    name, which nobody else's DNS can have led here.
    """
    found = _HOST_HEADER.fullmatch(host)
    if found is None:
        return False
    name = (found[1] or found[2]).lower()
    if name in ("localhost", bound.lower()):
        return True
    open_to_others = not _is_loopback(bound)
    try:
        return ipaddress.ip_address(name).is_loopback or open_to_others
    except ValueError:
        return open_to_others and name == socket.gethostname().lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
