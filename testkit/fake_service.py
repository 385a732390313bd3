"""
An outside service over HTTP that can be away in every way, and notes each call.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class NotedCall:
    """
    One call, from when to when, and what it was answered with; 0: nothing.
    """

    number: int
    began: float
    ended: float
    status: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200
    allow_reuse_address = True


class FakeService:
    """
    Answers each POST of `{"n": number}` with *status*; 0: it never answers.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.status = 200
        self.seconds = seconds  # that an answer takes
        self.calls: list[NotedCall] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def away(self, seconds: float, status: int = 503) -> Iterator[None]:
        """
        Be away while the block lasts, and for *seconds* from now in all.
        """
        until = time.monotonic() + seconds
        self.status = status
        try:
            yield
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            self.status = 200

    def between(self, start: float, end: float) -> list[NotedCall]:
        """
        List the calls that began then, by the monotonic clock.
        """
        with self._lock:
            return [each for each in self.calls if start <= each.began < end]

    def _answer(self, number: int) -> int:
        began, status = time.monotonic(), self.status
        while not status and not self.status:
            time.sleep(0.05)
        time.sleep(self.seconds)
        with self._lock:
            self.calls.append(NotedCall(number, began, time.monotonic(), status))
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                status = service._answer(json.loads(self.rfile.read(length))["n"])
                if not status:
                    return
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        return Handler
