"""
Telemetry: when it is sent, what silence costs, and that a receiver which is away is
nobody's failure.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from otlp_receiver import Receiver, receiving

from outlast.telemetry.signals import METRICS, TRACES, is_enabled

ROOT = Path(__file__).parents[2]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SOMEWHERE = "http://127.0.0.1:9"  # nobody is asked

SPANS = """
import logging, sys, time
from outlast.telemetry.process import telemetry
from outlast.telemetry import setup
setup.start_telemetry("trial")
span = telemetry.tracer.span
with span("outer", {"outlast.mission": "m"}), span("inner", {}):
    pass
"""
MEASURED = """
time.sleep(WAIT_S)
began = time.monotonic()
setup.stop_telemetry()
print(time.monotonic() - began)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """
    Run *code* in an interpreter of its own, with no OTEL_* but those given.
    """
    plain = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({}, set()),
        ({ENDPOINT: ""}, set()),
        ({ENDPOINT: SOMEWHERE}, {TRACES, METRICS}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": SOMEWHERE}, {TRACES}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": SOMEWHERE}, {METRICS}),
        ({ENDPOINT: SOMEWHERE, "OTEL_SDK_DISABLED": "True"}, set()),
        ({ENDPOINT: SOMEWHERE, "OTEL_SDK_DISABLED": "false"}, {TRACES, METRICS}),
        ({ENDPOINT: SOMEWHERE, "OTEL_TRACES_EXPORTER": "none"}, {METRICS}),
        ({ENDPOINT: SOMEWHERE, "OTEL_METRICS_EXPORTER": "console"}, {TRACES}),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {TRACES}),
        ({"OTEL_SERVICE_NAME": "mine"}, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_environment_says_what_is_sent(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], asked: set[str]
) -> None:
    """
    An endpoint, or an exporter by name, asks for it; disabled, or another exporter,
    is no.
    """
    for name in [each for each in os.environ if each.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert {each for each in (TRACES, METRICS) if is_enabled(each)} == asked


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    """
    Silence costs nothing: no module of OpenTelemetry, no thread, for a starter or a
    worker.
    """
    told = fresh(
        "import threading, sys\n"
        "import outlast.fleet.worker_main, outlast.cli.run_mission\n"
        "import outlast.cli.worker_command\n"
        f"{SPANS}"
        "setup.preload_otlp()\n"
        "setup.interceptors()\n"
        "setup.stop_telemetry()\n"
        "print(threading.active_count())\n"
        "print(*(each for each in sys.modules if each.startswith('opentelemetry')))"
    )
    assert told.stdout == "1\n\n"
    assert told.stderr == ""


def test_preloading_starts_no_thread() -> None:
    """
    A zygote with a second thread could not fork.
    """
    told = fresh(
        "import os, sys\n"
        "from outlast.fleet.fork_server import count_threads\n"
        "from outlast.telemetry import setup\n"
        "setup.preload_otlp()\n"
        "print('outlast.telemetry.otlp' in sys.modules, count_threads())",
        **{ENDPOINT: SOMEWHERE},
    )
    assert told.stdout == "True 1\n"


def test_spans_arrive_with_who_has_sent_them(receiver: Receiver) -> None:
    """
    Service, process kind, pid and host; what lay within another span is below it.
    """
    fresh(SPANS + "setup.stop_telemetry()", **{ENDPOINT: receiver.url})
    (outer,), (inner,) = receiver.named("outer"), receiver.named("inner")
    assert (inner.trace, inner.parent) == (outer.trace, outer.id)
    assert outer.attributes == {"outlast.mission": "m"}
    assert outer.process["service.name"] == "outlast"
    assert outer.process["outlast.process"] == "trial"
    assert outer.process["host.name"] == socket.gethostname()
    assert outer.pid > 0


def test_the_environment_names_the_service(receiver: Receiver) -> None:
    """
    OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what we would say.
    """
    said = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "host.name=h,a=b"}
    fresh(SPANS + "setup.stop_telemetry()", **{ENDPOINT: receiver.url}, **said)
    process = receiver.spans[0].process
    assert process["service.name"] == "mine"
    assert (process["host.name"], process["a"]) == ("h", "b")


def test_little_waits_to_be_sent(receiver: Receiver) -> None:
    """
    What ended a second ago is out of a killed process's hands.
    """
    fresh(
        SPANS + "time.sleep(1); import os; print(end='', flush=True); os._exit(0)",
        **{ENDPOINT: receiver.url},
    )
    assert {each.name for each in receiver.spans} == {"outer", "inner"}


@pytest.mark.parametrize("listens", [True, False], ids=["mute", "nobody there"])
@pytest.mark.parametrize("wait_s", [0.0, 3.0], ids=["at once", "after a while"])
def test_a_receiver_that_is_away_delays_no_end(listens: bool, wait_s: float) -> None:
    """
    Whether it refuses or never answers: 0.3 s at most for all signals together, and
    one line at most, however often it was tried.
    """
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1] if listens else 1
        code = SPANS + MEASURED.replace("WAIT_S", str(wait_s))
        interval = {"OTEL_METRIC_EXPORT_INTERVAL": "200"}
        told = fresh(
            code + "import os; sys.stdout.flush(); os._exit(0)",
            **{ENDPOINT: f"http://127.0.0.1:{port}"},
            **interval,
        )
    assert float(told.stdout) < 0.5
    lines = told.stderr.splitlines()
    assert len(lines) <= 1, told.stderr
    if wait_s and not listens:
        assert lines[0].startswith("telemetry.unsent: ")


@pytest.mark.parametrize(
    "said",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "0"},
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "many"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "-1"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_cannot_be_sent_is_said_and_work_goes_on(said: dict[str, str]) -> None:
    """
    A setting that we cannot follow costs one line, never the process.
    """
    code = SPANS + "setup.interceptors(); setup.stop_telemetry(); print('worked')"
    told = fresh(code, **{ENDPOINT: SOMEWHERE}, **said)
    assert told.stdout == "worked\n"
    (line,) = told.stderr.splitlines()
    assert line.startswith("telemetry.off: ")
