"""
A question is answered by the sentence that says it, or told that none does.
"""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.crew.extractive.evidence import find_evidence
from outlast.crew.extractive.extraction import CITATIONS, LONGEST, Evidence
from outlast.crew.extractive.question_splitting import MAX_SUB_QUESTIONS, split_question
from outlast.crew.extractive.questions import parse_question
from outlast.crew.library.library import library_id, update
from outlast.store.database import Store
from tests.unit.document_fakes import folder_of

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = "how long what is are the backups key kept depot vans a"
FILES = {
    "backup.md": (
        "# Backups\n\n## Keeping\n\n"
        "Backups are kept for 35 days. The encryption key is rotated once a year.\n\n"
        "## Errors\n\n"
        "Error code LD-07 means that the key does not match.\n"
        "Error code LD-11 means that a backup took too long.\n\n"
        "## Settings\n\n### max_retries\n\n"
        "How often a copy is tried again. The default is 4.\n"
    ),
    "people.md": (
        "# People\n\n"
        "The owner of the backups is Eamon Strake. The data officer is Hedda Lisle.\n\n"
        "What do drivers wear? Drivers wear a yellow vest in the yard.\n\n"
        "Frozen fish is packed in wet ice, blue crates and thick paper.\n"
    ),
    "numbers.md": (
        "# Numbers\n\n| Depot | Vans | Doors |\n|---|---|---|\n"
        "| Harle Quay | 31 | 12 |\n| Stennet Cross | 19 | 7 |\n\n"
        "Two vans of the depot at Harle Quay burned down.\n\n"
        "The drivers work in 2 shifts for us. In all 212 drivers work for us.\n"
    ),
}


@pytest.fixture
async def library(store: Store, tmp_path: Path) -> str:
    return await _indexed(store, folder_of(tmp_path / "documents", FILES))


async def _indexed(store: Store, folder: Path) -> str:
    name = library_id("tenant", folder)
    async for _ in update(store, name, folder):
        pass
    return name


def best(evidence: Evidence) -> str:
    return evidence.findings[0].quote if evidence.findings else ""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long are backups kept?", "Backups are kept for 35 days."),
        ("How long do we retain a backup?", "Backups are kept for 35 days."),
        ("Who owns the backups?", "The owner of the backups is Eamon Strake."),
        ("What does LD-11 mean?", "LD-11 means that a backup took too long."),
        ("How often is the encryption key rotated?", "is rotated once a year."),
        ("What is the default of max_retries?", "The default is 4."),
        ("What do drivers wear?", "Drivers wear a yellow vest in the yard."),
        ("How many vans does Stennet Cross have?", "| Stennet Cross | 19 | 7 |"),
        ("How many drivers work for us?", "In all 212 drivers work for us."),
    ],
)
def test_the_sentence_that_says_it_comes_first(
    store: Store, library: str, question: str, answer: str
) -> None:
    """
    An answerable question is answered by its sentence, whichever form the words have.
    """
    assert answer in best(find_evidence(store, library, question))


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Mongolia?",
        "Which brand of tape do the backups use?",
        "What does error code LD-99 mean?",
        "What is the default of max_connections?",
        "Who is the depot manager at Oxmere?",
        "Which insurance covers the vans at Harle Quay?",
        "Is frozen fish packed in wet ice, blue crates and thick paper at Zorblax?",
        "What is it?",
        "",
        "???",
    ],
)
def test_what_stands_nowhere_is_not_answered(
    store: Store, library: str, question: str
) -> None:
    """
    The documents' own words do not make an answer of a fact that they do not hold.
    """
    evidence = find_evidence(store, library, question)

    assert not evidence.answered
    assert evidence.findings == ()


def test_what_is_missing_is_named(store: Store, library: str) -> None:
    """
    A refusal tells the word that no passage holds.
    """
    assert "LD-99" in find_evidence(store, library, "What does LD-99 mean?").missing


def test_the_same_is_not_quoted_twice(store: Store, library: str) -> None:
    """
    Citations are few, different, and best first.
    """
    findings = find_evidence(store, library, "What does an error code mean?").findings
    scores = [each.score for each in findings]

    assert 1 < len({each.quote for each in findings}) == len(findings) <= CITATIONS
    assert scores == sorted(scores, reverse=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.lists(st.sampled_from(WORDS.split())).map(" ".join))
def test_every_quotation_is_word_for_word_at_its_line(
    store: Store, library: str, question: str
) -> None:
    """
    Whatever is asked, a quotation stands in its file where it says.
    """
    for each in find_evidence(store, library, question).findings:
        text = FILES[each.document]
        line = text.count("\n", 0, text.index(each.quote)) + 1
        assert each.line == line
        assert len(each.quote) <= LONGEST


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(max_size=80), context=st.text(max_size=20))
def test_no_question_is_an_error(
    store: Store, library: str, question: str, context: str
) -> None:
    """
    Whatever is typed is looked up, or not answered.
    """
    find_evidence(store, library, question, context)
    assert 1 <= len(split_question(question)) <= MAX_SUB_QUESTIONS


def test_an_identifier_is_one_term() -> None:
    """
    An identifier stays whole and nothing else answers for it; a verb's forms are one.
    """
    terms = {
        term.text: term for term in parse_question("How is max_retries kept up?").terms
    }

    assert terms["max_retries"].strict
    assert terms["max_retries"].phrases == ("max retries", "maxretries")
    assert "retain" in terms["kept"].phrases
    assert set(terms) == {"max_retries", "kept"}


def test_an_unknown_word_weighs_most() -> None:
    """
    The rarer a word, the more it weighs; what every question says weighs little.
    """
    vault, time = parse_question("vault time").terms

    assert vault.weight(0, 100) == pytest.approx(1.0)
    assert vault.weight(0, 100) > vault.weight(1, 100) > vault.weight(90, 100)
    assert time.weight(5, 100) < vault.weight(5, 100)


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("Who owns the vault?", [("Who owns the vault?", "")]),
        (
            "When and where is the test done?",
            [("When and where is the test done?", "")],
        ),
        (
            "How long are backups kept, and who is the data officer?",
            [("How long are backups kept?", ""), ("Who is the data officer?", "")],
        ),
        (
            "Where is the vault and who may open it?",
            [("Where is the vault?", ""), ("Who may open it?", "vault")],
        ),
        (
            "Sluice is down. Whom do I call?",
            [("Sluice is down. Whom do I call?", "")],
        ),
        ("What are salt and pepper?", [("What are salt and pepper?", "")]),
    ],
)
def test_a_question_is_split_only_where_each_part_asks(
    question: str, parts: list[tuple[str, str]]
) -> None:
    """
    Parts stand alone: one without a subject takes it from those before.
    """
    assert [(part.question, part.context) for part in split_question(question)] == parts


async def test_the_examples_are_answered_and_refused(store: Store) -> None:
    """
    On the shipped examples at least 9 of 10 answers are right and no one is made up.
    """
    library = await _indexed(store, EXAMPLES / "documents")
    asked = yaml.safe_load((EXAMPLES / "questions.yaml").read_text())
    right = sum(_is_right(store, library, each) for each in asked["answerable"])
    made_up = [
        each["question"]
        for each in asked["unanswerable"]
        if find_evidence(store, library, each["question"]).answered
    ]

    assert made_up == []
    assert right >= 0.9 * len(asked["answerable"])


def _is_right(store: Store, library: str, asked: dict[str, object]) -> bool:
    contained = asked["contains"]
    expected = contained if isinstance(contained, list) else [contained]
    parts = split_question(str(asked["question"]))
    quotes = [best(find_evidence(store, library, p.question, p.context)) for p in parts]
    return len(quotes) == len(expected) and all(
        text in " ".join(quote.split())
        for text, quote in zip(expected, quotes, strict=True)
    )
