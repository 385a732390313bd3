"""
The shipped crew, agent by agent: killed, deceived, and asked for what is not there.
"""

from pathlib import Path
from typing import Any

import pytest
from document_fakes import Trials

from outlast.contracts.errors import GiveUp
from outlast.crew.crew_models import Citation, Draft, LibraryIndex, Paragraph, Review
from outlast.crew.librarian import librarian
from outlast.crew.library import library
from outlast.crew.planner import planner
from outlast.crew.publisher import publisher
from outlast.crew.researcher import researcher
from outlast.crew.reviewer import reviewer
from outlast.crew.writer import writer
from outlast.store.database import Store
from tests.unit.document_fakes import folder_of

FILES = {
    "backup.md": "# Backup\n\nBackups are kept for 35 days.\nThey start at 23:30.\n",
    "depots.html": "<h1>Depots</h1>\n<p>The gate of Harle Quay is green.</p>",
}
KEPT = Citation(document="backup.md", line=3, quote="Backups are kept for 35 days.")
GATE = Citation(
    document="depots.html", line=2, quote="The gate of Harle Quay is green."
)
INDEX = LibraryIndex(library="l1", documents=2, indexed=2, removed=0)

TRIALS = Trials()


@pytest.fixture(autouse=True)
def shared(store: Store) -> Store:
    TRIALS.store = store
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "documents", FILES)


def draft(*quotations: Citation) -> dict[str, Any]:
    paragraph = Paragraph(question="How long?", quotations=list(quotations))
    return Draft(question="How long?", paragraphs=[paragraph]).model_dump(mode="json")


async def test_a_killed_librarian_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The second attempt indexes what is left and counts what the first one did.
    """
    monkeypatch.setattr(library, "STEP_FILES", 1)
    ended = await TRIALS.run(librarian, {"documents": str(folder)}, kill_after=2)
    index = LibraryIndex.model_validate(ended.result)

    assert (index.documents, index.indexed, index.gaps) == (2, 2, [])


async def test_a_librarian_without_a_folder_gives_up() -> None:
    """
    A folder that is gone is no empty folder, and no retry brings it back.
    """
    with pytest.raises(GiveUp, match="cannot be read"):
        await TRIALS.run(librarian, {"documents": "/nowhere/at/all"})


async def test_a_question_becomes_an_answer_with_its_source(folder: Path) -> None:
    """
    From the folder to the draft: what is said is quoted, what is not said is named.
    """
    index = (await TRIALS.run(librarian, {"documents": str(folder)})).result
    asked = ["How long are backups kept?", "What colour are the vans?"]
    needs = {}
    for at, question in enumerate(asked):
        given: dict[str, Any] = {"question": question}
        ended = await TRIALS.run(researcher, given, needs={"index": index})
        needs[f"research-{at}"] = ended.result
    parts: dict[str, Any] = {
        f"research-{at}": {"question": question} for at, question in enumerate(asked)
    }
    order = {"question": " ".join(asked), "parts": parts}
    made = Draft.model_validate((await TRIALS.run(writer, order, needs=needs)).result)

    assert made.answer == (
        "Backups are kept for 35 days. [1]\n\n"
        "The documents do not answer this: What colour are the vans?"
    )


async def test_a_part_that_was_lost_makes_the_draft_degraded() -> None:
    """
    A research task that failed is told in the answer, not passed over.
    """
    order: dict[str, Any] = {
        "question": "A?",
        "parts": {"research-1": {"question": "A?"}},
    }
    ended = await TRIALS.run(writer, order)

    assert ended.degraded == ["not looked up: A?"]
    assert "could not be looked up" in Draft.model_validate(ended.result).answer


async def test_the_planner_plans_a_task_for_each_part() -> None:
    """
    Two parts are two optional research tasks; all else waits for what it needs.
    """
    order = {"question": "Who owns the vault and how long are backups kept?"}
    order |= {"documents": "/d", "reports": "/r", "mission": "m"}
    needs: dict[str, Any] = {"index": INDEX.model_dump(mode="json")}
    planned = planner.read(dict(order), needs)
    made = await planner(planned, _Silent())
    tasks = {task.id: task for task in made.tasks}

    assert list(tasks) == ["research-1", "research-2", "write", "review", "publish"]
    assert not tasks["research-1"].required
    assert tasks["write"].needs == ["research-1", "research-2"]
    assert tasks["publish"].needs == ["review", "index"]


class _Silent:
    def emit(self, event: str) -> None:
        """
        Tell nobody.
        """


async def test_the_reviewer_passes_what_stands_in_its_source(folder: Path) -> None:
    """
    A quotation that the file holds at its line is verified.
    """
    ended = await TRIALS.run(
        reviewer, {"documents": str(folder)}, needs={"write": draft(KEPT, GATE)}
    )
    review = Review.model_validate(ended.result)

    assert ended.rejected is None
    assert [each.verified for each in review.citations] == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        {"quote": "Backups are kept for 36 days."},
        {"line": 4},
        {"document": "gone.md"},
        {"document": "../outside.md"},
        {"quote": " "},
    ],
)
async def test_the_reviewer_drops_what_does_not(
    folder: Path, change: dict[str, Any]
) -> None:
    """
    A changed word, another line or another file: dropped, named, and renumbered.
    """
    (folder.parent / "outside.md").write_text(FILES["backup.md"])
    wrong = KEPT.model_copy(update=change)
    ended = await TRIALS.run(
        reviewer, {"documents": str(folder)}, needs={"write": draft(wrong, GATE)}
    )
    review = Review.model_validate(ended.result)

    assert review.answer == "The gate of Harle Quay is green. [1]"
    assert [each.document for each in review.dropped] == [wrong.document]
    assert ended.rejected is not None
    assert wrong.place in ended.rejected


async def test_an_answer_without_a_verified_source_is_none(folder: Path) -> None:
    """
    When every quotation is dropped, nothing is claimed.
    """
    wrong = KEPT.model_copy(update={"line": 1})
    ended = await TRIALS.run(
        reviewer, {"documents": str(folder)}, needs={"write": draft(wrong)}
    )
    review = Review.model_validate(ended.result)

    assert not review.answered
    assert review.answer.startswith("What was found could not be verified")


async def test_the_report_begins_with_the_answer(tmp_path: Path) -> None:
    """
    The report is one whole file: answer, places, question, sources, gaps, dropped.
    """
    review = Review(
        question="How long?",
        answer="Backups are kept for 35 days. [1]",
        citations=[KEPT],
        dropped=[GATE],
        answered=True,
    )
    gaps = [
        {"document": "old.doc", "reason": "is of a kind that cannot be read (.doc)"}
    ]
    index = {**INDEX.model_dump(), "gaps": gaps, "gaps_total": 1}
    ended = await TRIALS.run(
        publisher,
        {"reports": str(tmp_path / "reports"), "mission": "m-1"},
        needs={"review": review.model_dump(mode="json"), "index": index},
    )
    text = (tmp_path / "reports/m-1.md").read_text()

    assert text.startswith("Backups are kept for 35 days. [1]\n\n[1] backup.md:3")
    assert "1 of 2 documents were read" in text
    assert "`old.doc` is of a kind" in text
    assert "depots.html:2" in text
    assert ended.effects == ["publish:1"]
    assert [each.name for each in (tmp_path / "reports").iterdir()] == ["m-1.md"]
