"""
Secrets are masked in every text that leaves a worker, in whatever way they are written.
"""

import base64
import html
import json
import os
import time
import urllib.parse

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from outlast import secrets
from outlast.agents.importing import error_sentence
from outlast.contracts.errors import MissingSecretError
from outlast.contracts.text import MAX_PARSED_CHARS
from outlast.secrets import MASK, hand_out, mask, masked, masked_head
from outlast.telemetry.masking import MaskingExporter

PLAIN = "hunter2-SECRET"
ODD = 'p@ss w/ö"rd\\+%&<€🔑>\n#2'
WRITINGS = {
    "as it is": lambda text: text,
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in repr": lambda text: repr(json.dumps(text)),
    "a URL": urllib.parse.quote,
    "a whole URL part": lambda text: urllib.parse.quote(text, safe=""),
    "a URL in lower case": lambda text: urllib.parse.quote(text, safe="").replace(
        "%C3%B6", "%c3%b6"
    ),
    "a form": urllib.parse.quote_plus,
    "a URL in a URL": lambda text: urllib.parse.quote(urllib.parse.quote(text)),
    "HTML": html.escape,
    "one line": lambda text: " ".join(text.split()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "a header Basic": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "another Basic": lambda text: base64.b64encode(f"bob:{text}!".encode()).decode(),
    "a third Basic": lambda text: base64.b64encode(f"anne:{text}!!".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
}


@pytest.mark.parametrize("secret", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_a_secret_is_known_however_it_is_written(secret: str, writing: str) -> None:
    """
    In an address, a header, a quoted body: nothing of it is left, and all around it is.
    """
    written = WRITINGS[writing](secret)
    told = mask(f"GET /x?key={written}&of=me", {"OUTLAST_SECRET_A": secret})
    assert MASK in told
    assert told.startswith("GET /x?key=")
    assert told.endswith("&of=me")
    left = told.replace("GET /x?key=", "").replace("&of=me", "").replace(MASK, "")
    assert len(left) <= 10  # the name before it in base64, quotation marks
    assert not any(part in left for part in ("hunter", "SECRET", "p@ss", "rd"))


@pytest.mark.parametrize(
    "text", ["hunter", "SECRET", "aHVudGVy", "100%", "a+b", "\\\\\\", "1", "me & you"]
)
def test_other_text_stays(text: str) -> None:
    """
    Also what is part of a secret.
    """
    given = {"OUTLAST_SECRET_A": PLAIN, "OUTLAST_SECRET_B": ODD, "OTHER": "me"}
    assert mask(text, given) == text


def test_each_line_of_a_secret_is_one() -> None:
    """
    As logs tear them apart: also the first and the last, but for headings.
    """
    given = {"OUTLAST_SECRET_A": "first-line\nsecond-line\n-----END-----"}
    assert mask("a first-line", given) == f"a {MASK}"
    assert mask("a second-line", given) == f"a {MASK}"
    assert mask("a -----END-----", given) == "a -----END-----"


def test_what_was_handed_out_is_masked_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Also when the agent takes it out of its environment, or has another one put there.
    """
    monkeypatch.setattr(secrets, "_handed_out", set())
    monkeypatch.setenv("OUTLAST_SECRET_PAY", PLAIN)
    assert hand_out("pay") == PLAIN
    del os.environ["OUTLAST_SECRET_PAY"]
    assert mask(f"a {PLAIN}") == f"a {MASK}"
    with pytest.raises(MissingSecretError, match="OUTLAST_SECRET_PAY"):
        hand_out("pay")


@pytest.mark.parametrize("before", range(-130, 60, 3))
def test_no_piece_is_left_where_a_text_is_cut(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """
    Wherever a secret begins before the cut, also after others that were masked.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", PLAIN)
    blank = " " * (MAX_PARSED_CHARS - before)
    assert "hun" not in masked(f"{blank}{PLAIN}{'x' * 100}", 400)
    full = f"{PLAIN} " * (MAX_PARSED_CHARS // (len(PLAIN) + 1))
    text = f"{full}{'.' * (MAX_PARSED_CHARS - len(full) - before)}{PLAIN * 3}"
    assert "hun" not in masked_head(text)


def test_masking_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Texts that are nearly secrets, or long, are not tried in every way there is.
    """
    monkeypatch.setenv("OUTLAST_SECRET_A", "\\" * 12 + "x y   z" + "+" * 20)
    monkeypatch.setenv("OUTLAST_SECRET_B", PLAIN)
    began = time.monotonic()
    for text in (
        "\\" * 20_000,
        " " * 20_000,
        "+" * 20_000,
        "%25" * 7_000,
        "A" * 20_000,
    ):
        mask(text)
        masked(text * 50, 400)
    assert time.monotonic() - began < 2.0


def test_what_keeps_agents_from_loading_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A module may read one when it is imported, and fail with it.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", PLAIN)
    assert (
        error_sentence(ConnectionError(f"https://x/?key={PLAIN}"))
        == f": https://x/?key={MASK}"
    )


def test_spans_tell_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Neither what an agent raised, nor the addresses that a library has noted.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", PLAIN)
    sent = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(MaskingExporter(sent)))
    tracer = provider.get_tracer("theirs")
    noted = {"url": f"https://x/?key={PLAIN}", "parts": [PLAIN, "x"], "n": 1}
    with tracer.start_as_current_span(f"GET {PLAIN}", attributes=noted) as span:
        span.add_event("asked", {"of": PLAIN})
        span.record_exception(ConnectionError(f"no {PLAIN}"))
        span.set_status(StatusCode.ERROR, f"no {PLAIN}")

    (told,) = sent.get_finished_spans()
    assert PLAIN not in told.to_json()
    assert dict(told.attributes or {}) == {
        "url": f"https://x/?key={MASK}",
        "parts": (MASK, "x"),
        "n": 1,
    }
    assert [each.name for each in told.events] == ["asked", "exception"]
    assert told.context == span.get_span_context()
