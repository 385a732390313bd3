"""
Spans that a process could not end: noted in a file as they begin, ended by the fleet's
parent when the process has died.

A span is sent when it ends. A SIGKILL would therefore take along the very attempt that
it hit, and with it the parent of everything that this attempt had told before.
"""

import fcntl
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from outlast.store.private import open_private, require_own_folder
from outlast.telemetry.masking import masked_attributes

# Beyond what is under way: past it the file is written anew with only that.
CRASH_SPANS_BYTES = 256 * 1024
# What an agent says of a span of its own may be large: then that is not noted.
CRASH_SPAN_LINE_BYTES = 8 * 1024

SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)


class OpenSpanRecorder(SpanProcessor):
    """
    Notes spans under way in the file at *path*, on which this process has a lock.

    A line begins a span, or says more of it; one with the bare id ends it. Each is one
    write, which the kernel keeps whatever happens to the process.
    """

    def __init__(self, path: Path, resource: Resource) -> None:
        require_own_folder(path.parent)
        self._path = path
        self._head = _line(dict(resource.attributes or {}))
        self._open: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._file, self._bytes, self._limit = self._write_anew()
        os.register_at_fork(after_in_child=self._close_in_fork)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.add(span)

    def add(self, span: trace.Span) -> None:
        """
        Note that *span* is under way, with its attributes so far.
        """
        if isinstance(span, Span) and span.get_span_context().trace_flags.sampled:
            line = _span_line(span)
            with self._lock:
                self._open[_id_of(span)] = line
                self._write(line)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            if self._open.pop(_id_of(span), None) is not None:
                self._write(_line(_id_of(span)))

    def _close_in_fork(self) -> None:
        """
        Give up file and lock in a process that an agent has forked: it would hold the
        lock of a dead worker, and another thread may have held ours.
        """
        os.close(self._file)
        self._file, self._lock = -1, threading.Lock()

    def _write(self, line: bytes) -> None:
        with suppress(OSError):  # the disk is full, or this is not our process
            self._bytes += os.write(self._file, line)
            if self._bytes > self._limit:
                last = self._file
                self._file, self._bytes, self._limit = self._write_anew()
                os.close(last)

    def _write_anew(self) -> tuple[int, int, int]:
        """
        Replace the file by one with only what is under way; returns it, its size, and
        the size from which on it is to be replaced in turn.
        """
        fresh = self._path.with_suffix(".new")
        file = open_private(fresh, os.O_TRUNC | os.O_WRONLY)
        fcntl.flock(file, fcntl.LOCK_EX)
        body = self._head + b"".join(self._open.values())
        size = os.write(file, body)
        fresh.replace(self._path)
        return file, size, CRASH_SPANS_BYTES + 2 * size


def recover_open_spans(path: Path, cause: str) -> list[ReadableSpan]:
    """
    Remove the file at *path* and end, as failed of *cause*, each span that was under
    way in its process; nothing while that lives.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            path.unlink()
            return _ended_at_crash(file.read().splitlines(), cause)
    return []


def _ended_at_crash(lines: list[bytes], cause: str) -> list[ReadableSpan]:
    resource: Resource | None = None
    under_way: dict[str, dict[str, Any]] = {}
    for line in lines:
        with suppress(ValueError):  # the last one may be cut off
            told = json.loads(line)
            if resource is None:
                resource = Resource(told)
            elif isinstance(told, str):
                under_way.pop(told, None)
            else:
                under_way[told["id"]] = told
    now = time.time_ns()
    return [_ended(told, resource, cause, now) for told in under_way.values()]


def _ended(
    told: dict[str, Any], resource: Resource | None, cause: str, now: int
) -> ReadableSpan:
    return ReadableSpan(
        name=told["name"],
        context=_context(told["trace"], told["id"]),
        parent=_context(told["trace"], told["parent"]) if told["parent"] else None,
        resource=resource,
        attributes=told.get("attributes"),
        kind=trace.SpanKind[told["kind"]],
        status=trace.Status(trace.StatusCode.ERROR, cause),
        start_time=told["start"],
        end_time=now,
        instrumentation_scope=InstrumentationScope(told["scope"]),
    )


def _context(of_trace: str, of_span: str) -> trace.SpanContext:
    return trace.SpanContext(int(of_trace, 16), int(of_span, 16), False, SAMPLED)


def _span_line(span: Span) -> bytes:
    scope = span.instrumentation_scope
    told = {
        "id": _id_of(span),
        "trace": trace.format_trace_id(span.get_span_context().trace_id),
        "parent": trace.format_span_id(span.parent.span_id) if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "scope": scope.name if scope else "",
        "start": span.start_time,
    }
    whole = _line({**told, "attributes": masked_attributes(span.attributes)})
    return whole if len(whole) <= CRASH_SPAN_LINE_BYTES else _line(told)


def _id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.context.span_id)


def _line(value: Any) -> bytes:
    return json.dumps(value, default=str).encode() + b"\n"
