"""
What agents, models and documents say is shown, and never obeyed: by a terminal, a log,
a pipe or a page.
"""

import contextlib
import io
import json
import os
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.live import Live

from outlast.cli import entrypoint
from outlast.cli.batch_results import ascii_json
from outlast.cli.follow import LiveScreen
from outlast.cli.snapshot import MissionSnapshot
from outlast.contracts.progress import MissionProgress, RunningTask
from outlast.contracts.reports import Outcome, TaskStatus
from outlast.contracts.text import (
    CAUSE_CHARS,
    markdown,
    markdown_cell,
    markdown_name,
    one_line,
    visible,
    visible_line,
)
from outlast.crew.crew_models import Citation, Gap, LibraryIndex, Review
from outlast.crew.publisher import report
from outlast.crew.tickets import TicketTally, page
from outlast.process.safe_output import (
    ErrorStream,
    SafeStream,
    stream_error,
    terminal_of,
)
from outlast.workflows.status_board import render_board

NASTY = (
    "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x1b]52;c;cm0gLXJm\x07 "
    "\x1b]8;;http://evil\x1b\\link \x9b31m \x08\r\x00\x7f \u202egnp.exe\u2066 \udce9 "
    "[bold]markup[/] :boom: <img src=x onerror=alert(1)> ![x](http://evil) a|b"
)
HIDDEN = {"\u202a", "\u202b", "\u202c", "\u202d", "\u202e"} | {
    chr(code) for code in range(0x2066, 0x206A)
}


def obeyed(text: str, but: str = "") -> list[str]:
    """
    List the characters of *text* that something would obey.
    """
    return [
        each
        for each in text
        if each not in but
        and (unicodedata.category(each) in ("Cc", "Cs") or each in HIDDEN)
    ]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for each in ends:
        with contextlib.suppress(OSError):
            os.close(each)


def stream(encoding: str = "utf-8") -> tuple[SafeStream, io.BytesIO]:
    body = io.BytesIO()
    return SafeStream(io.TextIOWrapper(body, encoding=encoding)), body


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_is_obeyed_survives(text: str) -> None:
    """
    Lines and tabs alone do, where there are lines; and nothing is silently lost.
    """
    assert not obeyed(visible(text), but="\n\t")
    assert not obeyed(visible_line(text))
    assert not obeyed(one_line(text, CAUSE_CHARS))
    assert len(visible(text)) >= len(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_plain_text_is_left_alone(text: str) -> None:
    """
    Letters of all languages, and what only looks odd.
    """
    assert visible(text) == text


def test_what_is_written_out_can_be_read() -> None:
    """
    As a programmer would write it.
    """
    assert visible("\x1b[31m \x9b \u202e\n\tb") == "\\x1b[31m \\x9b \\u202e\n\tb"
    assert visible_line("a\nb") == "a\\x0ab"


def test_five_megabytes_are_cut_before_they_are_read() -> None:
    """
    One line of them is wanted.
    """
    assert len(one_line("\x1b" * 5_000_000, 400)) == 400


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_terminal_prints_every_text(encoding: str) -> None:
    """
    With a replacement for what it does not have.
    """
    out, body = stream(encoding)
    print("“Kräne” 起重机", NASTY, file=out, flush=True)
    assert not obeyed(body.getvalue().decode(encoding), but="\n")
    assert b"Kr" in body.getvalue()


def test_a_reader_who_leaves_is_not_missed(pipe: tuple[int, int]) -> None:
    """
    As `| head` does: what comes after goes nowhere, quietly.
    """
    there, here = pipe
    out = SafeStream(os.fdopen(os.dup(here), "w"))
    os.close(there)
    for _ in range(3):
        print("x" * 100_000, file=out, flush=True)
    assert isinstance(stream_error(out), BrokenPipeError)
    out.terminal.close()


def test_json_has_the_escapes_of_json() -> None:
    """
    Also the text that the store has kept, with every letter and number as it was.
    """
    kept = json.dumps({"said": NASTY, "n": 1e5}, ensure_ascii=False)
    assert not obeyed(ascii_json(kept))
    assert json.loads(ascii_json(kept)) == {"said": NASTY, "n": 1e5}
    assert ascii_json('{"n": 1E5, "s": "\U0001f3d7"}') == (
        '{"n": 1E5, "s": "\\ud83c\\udfd7"}'
    )


def test_the_live_board_shows_text_as_text() -> None:
    """
    No markup, no emoji codes, no sequences but its own.
    """
    said = "\x1b]0;owned\x07 [bold]markup[/] :boom:"
    progress = MissionProgress(
        mission="m",
        paused=False,
        waiting=[],
        running=[RunningTask(id="a", role="r", route="r")],
        settled=[outcome(reasons=[said])],
    )
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    with Live(console=console, auto_refresh=False) as live:
        LiveScreen(live).show(MissionSnapshot(progress, {"a": said}))
        LiveScreen(live).note(said)
    told = screen.getvalue()
    assert "\x1b]" not in told
    assert told.count("\\x1b]0;owned\\x07 [bold]markup[/] :boom:") >= 3


def test_the_board_in_the_web_ui_keeps_its_table() -> None:
    """
    One row a task, whatever its reasons say.
    """
    progress = MissionProgress(
        mission="m",
        paused=False,
        waiting=[],
        running=[
            RunningTask(id="b", role="r", route="r", waiting_for=f"{NASTY}\n| x |")
        ],
        settled=[outcome(reasons=[f"{NASTY}\n# head"])],
    )
    rows = render_board(progress).splitlines()
    assert len(rows) == 4
    assert not obeyed("".join(rows))
    assert "<img" not in "".join(rows)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows[2:])


@pytest.mark.parametrize("status", [TaskStatus.DEAD, TaskStatus.PARKED])
def test_the_board_has_the_command_for_what_was_given_up(status: TaskStatus) -> None:
    """
    To be pasted from the details page in the Web UI.
    """
    progress = MissionProgress(
        mission="m",
        paused=False,
        waiting=[],
        running=[],
        settled=[outcome(["why"]).model_copy(update={"status": status})],
    )
    assert "why; again: `outlast redrive m --task a`" in render_board(progress)


def test_a_report_is_no_page_of_a_documents_making() -> None:
    """
    HTML of documents and models is shown as it was written, wherever it comes from.
    """
    citation = Citation(document=f"{NASTY}.txt", line=1, quote=NASTY, title=NASTY)
    review = Review(
        question=NASTY, answer=NASTY, citations=[citation], dropped=[citation]
    )
    gap = Gap(document=NASTY, reason=NASTY)
    index = LibraryIndex(
        library="l", documents=1, indexed=1, removed=0, gaps_total=1, gaps=[gap]
    )
    told = report(review, index)
    assert not obeyed(told, but="\n")
    assert "<img" not in told
    assert "![" not in told


def test_a_tally_is_none_either() -> None:
    """
    The names of tickets are other people's words.
    """
    told = TicketTally(tickets=1, not_answered=[f"{NASTY}\n# done"])
    assert "<img" not in page(told)
    assert not obeyed(page(told), but="\n")
    assert "\n# done" not in page(told)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b & c > d", "a < b & c > d"),
        ("<b>&lt;</b>", "&lt;b>&amp;lt;&lt;/b>"),
        ("<!-- x", "&lt;!-- x"),
        ("see [1]", "see [1]"),
    ],
)
def test_markdown_stays_readable(text: str, shown: str) -> None:
    """
    Only what would be HTML is changed.
    """
    assert markdown(text) == shown


def test_names_and_cells() -> None:
    """
    Nothing is escaped within code, so a name with HTML in it is not set as code.
    """
    assert markdown_name("a b.txt") == "`a b.txt`"
    assert markdown_name("<b>`.txt") == "&lt;b>\\`.txt"
    assert markdown_cell("a|b\nc") == "a\\|b c"


def test_the_terminal_below_is_for_what_moves_its_cursor() -> None:
    """
    Anything else that stands for a stream is its own.
    """
    out, _ = stream()
    assert terminal_of(out) is out.terminal
    plain = io.StringIO()
    assert terminal_of(plain) is plain


def test_output_that_cannot_be_written_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A full disk is told, with the exit code of a failure; another code stays.
    """
    full = SafeStream(open("/dev/full", "w", encoding="utf-8"))  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", full)
    print("x")
    assert entrypoint._flushed(0) == entrypoint.EXIT_FAILED
    assert entrypoint._flushed(entrypoint.EXIT_DEGRADED) == entrypoint.EXIT_DEGRADED
    assert "cannot be written" in capsys.readouterr().err
    full.terminal.close()


def outcome(reasons: list[str]) -> Outcome:
    return Outcome(id="a", role="r", route="r", status=TaskStatus.DEAD, reasons=reasons)


def test_standard_error_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Also of a starter, whose agents' modules have failed with one.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", "hunter2")
    body = io.BytesIO()
    out = ErrorStream(io.TextIOWrapper(body, encoding="utf-8"))
    text = "error: https://x/?key=hunter2\n"
    assert out.write(text) == len(text)
    out.flush()
    assert body.getvalue() == b"error: https://x/?key=[secret]\n"
