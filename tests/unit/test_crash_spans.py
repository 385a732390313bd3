"""
Spans of a dead process: noted as they begin, ended by somebody else.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode, Tracer, set_span_in_context

from outlast.telemetry.crash_spans import (
    CRASH_SPAN_LINE_BYTES,
    CRASH_SPANS_BYTES,
    OpenSpanRecorder,
    recover_open_spans,
)
from outlast.telemetry.temporal_tracing import OtelTracer

ROOT = Path(__file__).parents[2]
CAUSE = "killed by SIGKILL"

VICTIM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/unit")
from test_crash_spans import noting
tracer = noting(Path(sys.argv[1]))
with tracer.start_as_current_span("attempt", attributes={"outlast.task": "t"}):
    with tracer.start_as_current_span("over"):
        pass
    with tracer.start_as_current_span("within"):
        print("under way", flush=True)
        sys.stdin.read()
"""


def noting(path: Path) -> Tracer:
    """
    Make a tracer whose spans are noted at *path* and go nowhere.
    """
    resource = Resource({"process.pid": os.getpid()})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(OpenSpanRecorder(path, resource))
    return provider.get_tracer("theirs")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "7.spans"


def test_what_a_killed_process_had_under_way_is_ended(path: Path) -> None:
    """
    The same ids, names, attributes and process, with the cause as error; what had
    ended is left alone, and nothing is done while the process lives.
    """
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"under way\n"
    assert recover_open_spans(path, CAUSE) == []
    victim.send_signal(signal.SIGKILL)
    victim.communicate()

    attempt, within = recover_open_spans(path, CAUSE)
    assert (attempt.name, within.name) == ("attempt", "within")
    assert attempt.parent is None
    assert within.parent == attempt.context
    assert dict(attempt.attributes or {}) == {"outlast.task": "t"}
    assert attempt.resource.attributes["process.pid"] == victim.pid
    assert attempt.status.status_code is StatusCode.ERROR
    assert attempt.status.description == CAUSE
    assert (attempt.start_time or 0) < (attempt.end_time or 0)
    assert list(path.parent.iterdir()) == []
    assert recover_open_spans(path, CAUSE) == []


def left_by_a_dead(path: Path) -> list[str]:
    """
    List what would be ended if the writer of *path* were dead now.
    """
    copy = path.with_name("copy.spans")
    copy.write_bytes(path.read_bytes())
    return [each.name for each in recover_open_spans(copy, CAUSE)]


def test_what_is_said_later_is_noted_too(path: Path) -> None:
    """
    An attempt's span learns after its start whose it is.
    """
    resource = Resource({})
    noted, provider = OpenSpanRecorder(path, resource), TracerProvider()
    provider.add_span_processor(noted)
    told = OtelTracer(provider.get_tracer("ours"), noted)
    with told.span("attempt", {"a": 1}):
        told.describe({"b": 2})
        copy = path.with_name("copy.spans")
        copy.write_bytes(path.read_bytes())
    (attempt,) = recover_open_spans(copy, CAUSE)
    assert dict(attempt.attributes or {}) == {"a": 1, "b": 2}


def test_a_span_under_way_in_another_process_is_a_parent(path: Path) -> None:
    """
    The one that an attempt's header has brought.
    """
    tracer = noting(path)
    far = TracerProvider().get_tracer("far").start_span("far")
    tracer.start_span("attempt", context=set_span_in_context(far))
    copy = path.with_name("copy.spans")
    copy.write_bytes(path.read_bytes())
    (attempt,) = recover_open_spans(copy, CAUSE)
    assert attempt.parent is not None
    assert attempt.parent.span_id == far.get_span_context().span_id
    assert attempt.context.trace_id == far.get_span_context().trace_id


def test_the_file_does_not_grow_for_ever(path: Path) -> None:
    """
    It is written anew with what is under way, which loses nothing.
    """
    tracer = noting(path)
    with tracer.start_as_current_span("long"):
        for _ in range(4_000):
            with tracer.start_as_current_span("short", attributes={"x": "y" * 200}):
                pass
        assert path.stat().st_size < CRASH_SPANS_BYTES + 2 * CRASH_SPAN_LINE_BYTES
        assert left_by_a_dead(path) == ["long"]


def test_what_is_too_large_to_note_is_left_out(path: Path) -> None:
    """
    The span is ended all the same, without its attributes.
    """
    tracer = noting(path)
    tracer.start_span("large", attributes={"prompt": "x" * CRASH_SPAN_LINE_BYTES})
    assert path.stat().st_size < CRASH_SPAN_LINE_BYTES
    assert left_by_a_dead(path) == ["large"]


def test_a_line_that_was_cut_off_is_passed_over(path: Path) -> None:
    """
    What stands before it counts.
    """
    noting(path).start_span("attempt")
    copy = path.with_name("copy.spans")
    copy.write_bytes(path.read_bytes() + b'{"id": "00')
    assert [each.name for each in recover_open_spans(copy, CAUSE)] == ["attempt"]


def test_what_is_not_sampled_is_not_noted(path: Path) -> None:
    """
    Who asked for one trace in a hundred gets no more of the dead.
    """
    resource = Resource({})
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(OpenSpanRecorder(path, resource))
    provider.get_tracer("theirs").start_span("attempt")
    assert left_by_a_dead(path) == []


def test_no_secret_is_noted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who ends the span may not know it to be one.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", "hunter2")
    tracer = noting(path)
    tracer.start_span("attempt", attributes={"url": "https://x/?key=hunter2"})
    assert b"hunter2" not in path.read_bytes()
    assert b"key=[secret]" in path.read_bytes()


def test_what_an_agent_has_forked_holds_no_spans(path: Path) -> None:
    """
    The worker dies, its fork lives on and may make spans of its own: neither keeps the
    worker's open span from being ended.
    """
    resource = Resource({})
    recorder = OpenSpanRecorder(path, resource)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(recorder)
    span = provider.get_tracer("theirs").start_span("attempt")
    heard, said = os.pipe()
    with recorder._lock:  # as another thread holds it, in the middle of a write
        fork = os.fork()
        if fork == 0:
            provider.get_tracer("theirs").start_span("of the fork").end()
            os.write(said, b"!")
            signal.pause()
    try:
        assert select.select([heard], [], [], 5.0)[0], "the fork hangs"
        assert os.read(heard, 1) == b"!"
        os.close(recorder._file)  # as the kernel does at the worker's death
        (ended,) = recover_open_spans(path, CAUSE)
        assert ended.context.span_id == span.get_span_context().span_id
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
