"""
A model service that says what a script says, and misbehaves when told: a real HTTP
server that speaks OpenAI's chat completions, whole and streamed.

    with Service(script) as service:          # OPENAI_BASE_URL=service.url
        service.misbehave("500", "reset")     # each call draws one of them, by the seed
        ...
        service.heal()
        assert service.calls[-1].behaviour == "ok"

Every call is noted, with what it was asked and what it has cost.
"""

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, get_args

Behaviour = Literal[
    "ok",
    "429",
    "500",
    "hang",
    "reset",
    "garbage",
    "schema",
    "empty",
    "slow",
    "stall",
]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)

# What each answer is said to have cost.
TOKENS = 15
RETRY_AFTER_S = 1
SLOW_WORD_S = 0.05


@dataclass(frozen=True)
class ModelRequest:
    """
    A request, as far as scripts look at it.
    """

    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["messages"]
        return found

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        functions = [each["function"] for each in self.body.get("tools", [])]
        return {each["name"]: each["parameters"] for each in functions}

    @property
    def turn(self) -> int:
        """
        Which answer of the conversation is asked for, from 1.
        """
        return 1 + len([m for m in self.messages if m["role"] == "assistant"])

    @property
    def texts(self) -> list[str]:
        return [str(m["content"]) for m in self.messages if m["role"] == "tool"]


@dataclass(frozen=True)
class ToolCall:
    """
    An answer: call *tool*.
    """

    tool: str
    arguments: dict[str, Any]


# Text, or the tools to call.
Answer = str | list[ToolCall]
Script = Callable[[ModelRequest], Answer]


@dataclass(frozen=True)
class NotedRequest:
    """
    One call that came in.
    """

    at: float
    asked: ModelRequest
    behaviour: Behaviour


@dataclass
class FakeModelServer:
    """
    The running service, on a free port of loopback.
    """

    script: Script
    seed: int = 0
    calls: list[NotedRequest] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._behaviours: tuple[Behaviour, ...] = ("ok",)
        self._only: str | None = None
        self._dice = random.Random(self.seed)
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()  # lets go of those that hang
        self._server.shutdown()
        self._server.server_close()

    def misbehave(self, *behaviours: Behaviour, only: str | None = None) -> None:
        """
        Draw the behaviour of each call from now on from *behaviours*; of calls of the
        model *only*, where one is named.
        """
        self._behaviours, self._only = behaviours, only

    def heal(self) -> None:
        self.misbehave("ok")

    def note(self, body: dict[str, Any]) -> NotedRequest:
        meant = self._only in (None, body["model"])
        behaviour = self._dice.choice(self._behaviours) if meant else "ok"
        noted = NotedRequest(time.monotonic(), ModelRequest(body), behaviour)
        self.calls.append(noted)
        return noted


class _Handler(BaseHTTPRequestHandler):
    service: FakeModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        noted = self.service.note(json.loads(self.rfile.read(length)))
        try:
            getattr(self, f"_{noted.behaviour}", self._answer)(noted)
        except OSError:
            self.close_connection = True  # the client has gone

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """
        Say nothing.
        """

    def _answer(self, noted: NotedRequest) -> None:
        answer = self.service.script(noted.asked)
        if noted.asked.body.get("stream"):
            self._stream(_chunks(answer), noted.behaviour)
        else:
            self._send(200, json.dumps(_whole(answer)))

    def _stream(self, chunks: Iterator[dict[str, Any]], behaviour: Behaviour) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        for number, chunk in enumerate(chunks):
            if behaviour == "slow":
                time.sleep(SLOW_WORD_S)
            if behaviour == "stall" and number == 2:
                self.service.over.wait()
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _429(self, noted: NotedRequest) -> None:
        self._send(429, '{"error": "slow down"}', {"Retry-After": str(RETRY_AFTER_S)})

    def _500(self, noted: NotedRequest) -> None:
        self._send(500, '{"error": "broken"}')

    def _hang(self, noted: NotedRequest) -> None:
        self.service.over.wait()
        self.close_connection = True

    def _reset(self, noted: NotedRequest) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def _garbage(self, noted: NotedRequest) -> None:
        self._send(200, "<html>It works!</html>", {"Content-Type": "text/html"})

    def _schema(self, noted: NotedRequest) -> None:
        final = [name for name in noted.asked.tools if name.startswith("final")]
        wrong: Answer = [ToolCall(name, {"nonsense": 17}) for name in final[:1]]
        self._stream(_chunks(wrong or "no"), "ok")

    def _empty(self, noted: NotedRequest) -> None:
        self._stream(iter([_chunk({}, "stop"), _usage()]), "ok")

    def _send(
        self, code: int, body: str, headers: dict[str, str] | None = None
    ) -> None:
        length = {"Content-Length": str(len(body.encode()))}
        self._head(
            code, {"Content-Type": "application/json", **length, **(headers or {})}
        )
        self.wfile.write(body.encode())

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _chunks(answer: Answer) -> Iterator[dict[str, Any]]:
    """
    *answer* as a stream says it, a few letters at a time.
    """
    if isinstance(answer, str):
        for word in answer.split(" "):
            yield _chunk({"content": f"{word} "})
        yield _chunk({}, "stop")
    else:
        for at, call in enumerate(answer):
            yield from _call_chunks(at, call)
        yield _chunk({}, "tool_calls")
    yield _usage()


def _call_chunks(at: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    head = {"index": at, "id": f"call-{time.monotonic_ns()}", "type": "function"}
    named = {"name": call.tool, "arguments": ""}
    yield _chunk({"tool_calls": [{**head, "function": named}]})
    text = json.dumps(call.arguments)
    for start in range(0, len(text), 40):
        part = {"arguments": text[start : start + 40]}
        yield _chunk({"tool_calls": [{"index": at, "function": part}]})


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}}
    choice["finish_reason"] = finish
    return {**_envelope("chat.completion.chunk"), "choices": [choice]}


def _usage() -> dict[str, Any]:
    return {**_envelope("chat.completion.chunk"), "choices": [], "usage": _used()}


def _whole(answer: Answer) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": None}
    if isinstance(answer, str):
        said["content"] = answer
    else:
        said["tool_calls"] = [
            {
                "id": f"call-{time.monotonic_ns()}",
                "type": "function",
                "function": {"name": c.tool, "arguments": json.dumps(c.arguments)},
            }
            for c in answer
        ]
    reason = "stop" if isinstance(answer, str) else "tool_calls"
    choice = {"index": 0, "message": said, "finish_reason": reason}
    return {**_envelope("chat.completion"), "choices": [choice], "usage": _used()}


def _envelope(kind: str) -> dict[str, Any]:
    made = {"id": "scripted", "object": kind, "created": int(time.time())}
    return {**made, "model": "scripted"}


def _used() -> dict[str, int]:
    half = TOKENS // 3
    return {
        "prompt_tokens": TOKENS - half,
        "completion_tokens": half,
        "total_tokens": TOKENS,
    }
