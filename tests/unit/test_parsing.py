"""
Any file becomes passages with their lines, or one UnreadableDocumentError.
"""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.crew.library import office, parsing
from outlast.crew.library.parsing import (
    Passage,
    UnreadableDocumentError,
    decoded,
    parse,
)
from outlast.crew.library.passages import (
    LONG_PASSAGE,
    collapse_whitespace,
    split_passages,
)
from outlast.crew.library.sentences import sentences
from tests.unit.document_fakes import HTML, MARKDOWN, bomb, pdf, word


def passages(name: str, data: bytes | str) -> list[Passage]:
    content = data.encode() if isinstance(data, str) else data
    return parse(Path(name), content).passages


def test_markdown_is_quoted_word_for_word_at_its_line() -> None:
    """
    A passage of Markdown is a stretch of the file, and knows its headings and lines.
    """
    leave = passages("a.md", MARKDOWN)[1]

    assert leave.text in MARKDOWN
    assert leave.heading == "Handbook > Leave"
    assert leave.line == 7
    assert leave.line_of(leave.text.index("their manager")) == 8
    assert "# not a heading" in leave.text


def test_html_keeps_text_and_leaves_out_navigation() -> None:
    """
    Inline tags add no space, entities are decoded, scripts and navigation are gone.
    """
    page = parse(Path("a.html"), HTML.encode())
    text = "\n".join(each.text for each in page.passages)

    assert page.title == "Depots"
    assert "The depot has 12 doors & 4 cold rooms." in text
    assert "Harle Quay\t31" in text
    assert "Home page" not in text
    assert "alert" not in text
    assert page.passages[0].line == 5
    assert page.passages[-1].heading == "Depots > port"


def test_code_of_a_page_keeps_its_lines() -> None:
    """
    Lines of <pre> stay lines, each with its line of the page.
    """
    (code,) = passages("a.html", "<p>\n\n<pre>\n  one()\n  two()\n</pre>")

    assert code.text == "one()\n  two()"
    assert code.line_of(code.text.index("two")) == 5


def test_a_pdf_is_read_by_page() -> None:
    """
    The heading of a PDF's passage is its page.
    """
    (page,) = passages("a.pdf", pdf(text="Gates close at 22:30."))

    assert (page.heading, page.line, page.text) == (
        "page 1",
        1,
        "Gates close at 22:30.",
    )


def test_a_word_file_is_read_by_paragraph() -> None:
    """
    The line of a Word file's passage is the number of its paragraph or row.
    """
    (rules,) = passages("a.docx", word())

    assert rules.heading == "Yard rules"
    assert rules.line_of(rules.text.index("speed")) == 2
    assert rules.line_of(rules.text.index("Gate\tclosed")) == 3


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.md", b" \n\t\n", "is empty"),
        ("a.txt", bytes(range(256)) * 9, "is not text"),
        ("a.txt", "text".encode("utf-16-be"), "is not text"),
        ("a.pdf", b"%PDF-1.7 broken", "is damaged"),
        ("a.pdf", pdf(encrypted=True), "is encrypted"),
        ("a.pdf", pdf(), "holds no text"),
        ("a.docx", b"PK not a zip", "is damaged"),
        ("a.html", b"<html><script>x()</script>", "holds no text"),
        ("a.html", b"<div>" * 9_000 + b"deep", "nests its tags too deeply"),
        ("a.xlsx", b"sheet", "is of a kind that cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, data: bytes, reason: str) -> None:
    """
    Whatever is wrong with a file, the error is one and tells the reason.
    """
    with pytest.raises(UnreadableDocumentError) as raised:
        parse(Path(name), data)

    assert raised.value.reason.startswith(reason)


def test_a_word_file_may_not_unpack_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A zip bomb is refused before it is unpacked.
    """
    monkeypatch.setattr(office, "LARGEST_UNPACKED_BYTES", 1024 * 1024)

    with pytest.raises(UnreadableDocumentError, match="unpacks to more"):
        parse(Path("a.docx"), bomb(2))


def test_a_file_that_is_too_large_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Size is looked at first.
    """
    monkeypatch.setattr(parsing, "MAX_DOCUMENT_BYTES", 10)
    large = tmp_path / "a.txt"
    large.write_text("eleven characters")

    with pytest.raises(UnreadableDocumentError, match="larger than"):
        parse(large)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_decoded_whatever_its_encoding(encoding: str) -> None:
    """
    UTF-8, UTF-16 with its mark, and else Windows' Latin alphabet.
    """
    assert decoded("Käse, 5 €\r\nneu".encode(encoding)) == "Käse, 5 €\nneu"


@pytest.mark.parametrize("suffix", [*parsing.TEXT_PARSERS, *parsing.BINARY_PARSERS])
@given(data=st.binary(max_size=400))
def test_nothing_but_unreadable_is_ever_raised(suffix: str, data: bytes) -> None:
    """
    No content whatever makes a parser raise anything else.
    """
    with contextlib.suppress(UnreadableDocumentError):
        parse(Path(f"a{suffix}"), data)


@given(st.text(alphabet="ab .\n#-|`é\t", max_size=3000))
def test_a_plain_passage_stands_in_its_file_at_its_line(text: str) -> None:
    """
    Whatever the text, a passage is a part of it and starts at the line it says.
    """
    lines = text.split("\n")
    for suffix in (".md", ".txt"):
        for each in _read(suffix, text):
            assert each.text in text
            first = each.text.split("\n")[0]
            assert first in lines[each.line - 1]


def _read(suffix: str, text: str) -> list[Passage]:
    try:
        return passages(f"a{suffix}", text)
    except UnreadableDocumentError:
        return []


@given(st.lists(st.sampled_from(["One two three. ", "Ah! ", "X" * 90 + ". ", "\n\n"])))
def test_no_passage_ends_inside_a_sentence(parts: list[str]) -> None:
    """
    Passages are made of whole sentences, none longer than it may be, none lost.
    """
    text = "".join(parts * 9)
    spans = split_passages(text)
    ends = {span.end for span in sentences(text)}

    assert {span.end for span in spans} <= ends
    assert all(span.end - span.start <= LONG_PASSAGE for span in spans)
    assert collapse_whitespace(
        " ".join(text[start:end] for start, end in spans)
    ) == collapse_whitespace(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("See e.g. the docs. It works.", 2),
        ("Dr. Fenn and J. Smith approve it.", 1),
        ("Version 9.6 of No. 5 is out. Use it!", 2),
        ("- One item\n- Another\n  that wraps", 2),
        ("| a | b |\n| c | d |", 2),
        ("A line\nthat wraps. Done?", 2),
        ("1. First step\n2. Second step", 2),
        ("Severity: 3\nStatus: closed", 2),
    ],
)
def test_sentences_end_where_a_reader_says(text: str, count: int) -> None:
    """
    Short forms and wrapped lines end no sentence; items and rows do.
    """
    assert len(sentences(text)) == count
