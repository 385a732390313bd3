"""
The engine does not know its example: no name, text or comment of it speaks of what the
shipped crew does.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CREW = (
    # its trades
    *("clerk", "indexer", "librarian", "mailroom", "planner", "publisher"),
    *("researcher", "reviewer", "shelver"),
    # what they work on
    *("citation", "document", "handbook", "passage", "question", "quotation", "ticket"),
    # how
    *("docx", "ingest", "lxml", "pypdf", "snowballstemmer"),
    "OUTLAST_(MODEL|FALLBACK_MODEL|REPORTS|DOCUMENTS_ROOT)",
)
ALONE = rf"(?<![A-Za-z])(?i:{'|'.join(CREW)})(s|ed|ing)?(?![a-z])"
WITHIN = rf"(?<=[a-z])({'|'.join(map(str.title, CREW))})s?(?![a-z])"
WORDS = re.compile(f"{ALONE}|{WITHIN}")
LINKS = ("crew", "workflows")


def engine() -> list[Path]:
    found = [*(ROOT / "outlast").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]
    beside = [ROOT / "outlast" / each for each in LINKS]
    return sorted(f for f in found if not any(map(f.is_relative_to, beside)))


@pytest.mark.parametrize(
    "file", engine(), ids=lambda file: file.relative_to(ROOT).as_posix()
)
def test_the_engine_does_not_know_its_example(file: Path) -> None:
    """
    What it says of them would be wrong for everybody else's agents.
    """
    lines = enumerate(file.read_text().splitlines(), 1)
    assert [f"{at}: {line}" for at, line in lines if WORDS.search(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "documents = Table(",
        "from outlast.crew.library import document_of",
        "def ask_question(self) -> None:",
        'role="librarian"',
        "import pypdf",
        "class Ticket(BaseModel):",
        "class OutsideDocumentsError(GiveUp):",
        "self._passages",
        "# Ingested by the starter.",
        "OUTLAST_MODEL is away",
    ],
)
def test_a_word_of_the_crew_is_seen(line: str) -> None:
    """
    As a name, a part of one, a text or a comment.
    """
    assert WORDS.search(line)
