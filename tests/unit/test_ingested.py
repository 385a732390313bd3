"""
A library that the starter has ingested: agents on any host work from the store alone.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from document_fakes import Trials
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError, GiveUp
from outlast.crew.commands import ingesting, question
from outlast.crew.commands.question import library_of, question_mission
from outlast.crew.crew_models import Citation, Draft, LibraryIndex, Paragraph, Review
from outlast.crew.librarian import librarian
from outlast.crew.library.library import update
from outlast.crew.planner import planner
from outlast.crew.publisher import publisher
from outlast.crew.researcher import researcher
from outlast.crew.reviewer import reviewer
from outlast.crew.tickets import clerk, mailroom
from outlast.settings import Settings
from outlast.store.database import Store
from tests.unit.document_fakes import folder_of

FILES = {
    "backup.md": "# Backup\n\nBackups are kept for 35 days.\nThey start at 23:30.\n",
    "depots.html": "<h1>Depots</h1>\n<p>The gate of Harle Quay is green.</p>",
    "broken.pdf": "%PDF broken",
}
KEPT = Citation(document="backup.md", line=3, quote="Backups are kept for 35 days.")
GATE = Citation(
    document="depots.html", line=2, quote="The gate of Harle Quay is green."
)

TRIALS = Trials()


@pytest.fixture(autouse=True)
def shared(store: Store) -> Store:
    TRIALS.store = store
    return store


@pytest.fixture
async def library(store: Store, tmp_path: Path) -> str:
    """
    The id of a library whose folder is gone.
    """
    folder = folder_of(tmp_path / "documents", FILES)
    name = library_of(folder)
    async for _ in update(store, name, folder):
        pass
    shutil.rmtree(folder)
    return name


def draft(*quotations: Citation) -> dict[str, Any]:
    paragraph = Paragraph(question="How long?", quotations=list(quotations))
    return Draft(question="How long?", paragraphs=[paragraph]).model_dump(mode="json")


async def index_of(library: str) -> dict[str, Any]:
    return (await TRIALS.run(librarian, {"library": library})).result


async def test_the_librarian_says_what_is_there(library: str) -> None:
    """
    It counts documents and names gaps, without a folder to look into.
    """
    index = LibraryIndex.model_validate(await index_of(library))

    assert (index.library, index.documents, index.indexed) == (library, 3, 0)
    assert [each.document for each in index.gaps] == ["broken.pdf"]


async def test_a_library_that_nobody_ingested_is_given_up() -> None:
    """
    No retry brings it about; the reason says what does.
    """
    with pytest.raises(GiveUp) as error:
        await TRIALS.run(librarian, {"library": "l-nobody"})
    assert "outlast ingest" in told_in_one_sentence(error.value)


@pytest.mark.parametrize("given", [{}, {"library": "l1", "documents": "/d"}])
async def test_either_a_folder_or_a_library_is_named(given: dict[str, Any]) -> None:
    """
    Neither, or both, is no source.
    """
    with pytest.raises(BadInputError, match="name either documents"):
        await TRIALS.run(librarian, given)


async def test_research_needs_no_file(library: str) -> None:
    """
    What was ingested is found, with document and line.
    """
    given: dict[str, Any] = {"question": "How long are backups kept?"}
    ended = await TRIALS.run(
        researcher, given, needs={"index": await index_of(library)}
    )
    (found,) = ended.result["findings"]
    assert (found["document"], found["line"]) == ("backup.md", 3)


async def test_a_quotation_is_verified_in_the_store(library: str) -> None:
    """
    What the index holds of the document, at its line, is verified.
    """
    ended = await TRIALS.run(
        reviewer, {"library": library}, needs={"write": draft(KEPT, GATE)}
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
        {"document": "depots.html"},
        {"document": "broken.pdf"},
        {"quote": " "},
    ],
)
async def test_what_the_store_does_not_hold_is_dropped(
    library: str, change: dict[str, Any]
) -> None:
    """
    A changed word, another line or another document: dropped and named.
    """
    wrong = KEPT.model_copy(update=change)
    ended = await TRIALS.run(
        reviewer, {"library": library}, needs={"write": draft(wrong, GATE)}
    )
    review = Review.model_validate(ended.result)

    assert [each.document for each in review.citations] == [GATE.document]
    assert ended.rejected is not None
    assert wrong.place in ended.rejected


async def test_another_library_verifies_nothing(library: str) -> None:
    """
    A quotation stands in the library that was asked, or nowhere.
    """
    ended = await TRIALS.run(
        reviewer, {"library": "l-other"}, needs={"write": draft(KEPT)}
    )
    assert Review.model_validate(ended.result).citations == []


async def test_without_a_folder_of_the_starters_no_report_is_written(
    library: str,
) -> None:
    """
    The publication goes without a path: the starter writes the report.
    """
    review = Review(question="How long?", answer="35 days. [1]", citations=[KEPT])
    ended = await TRIALS.run(
        publisher,
        {"mission": "m-1"},
        needs={
            "review": review.model_dump(mode="json"),
            "index": await index_of(library),
        },
    )
    assert ended.result["report"] is None
    assert ended.result["answer"] == "35 days. [1]"
    assert ended.effects == []


async def test_tickets_are_answered_from_an_ingested_handbook(
    library: str, tmp_path: Path
) -> None:
    """
    The clerk verifies what it answers in the store, where no handbook is named.
    """
    tickets = folder_of(tmp_path / "tickets", {"T-1.txt": "How long are backups kept?"})
    outbox = tmp_path / "outbox"
    job = {"tickets": str(tickets), "outbox": str(outbox)}
    spread = await mailroom(
        mailroom.read(job, {"index": await index_of(library)}), _Silent()
    )
    ended = await TRIALS.run(clerk, spread.items[0])

    (posted,) = outbox.glob("T-1-*.txt")
    assert ended.result["posted"] == str(posted)
    assert "35 days" in posted.read_text()


class _Silent:
    def emit(self, event: str) -> None:
        """
        Tell nobody.
        """


# What the starter makes of a question


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """
    Settings with a database that other hosts share.
    """
    made = Settings(home=tmp_path / "home", database_url="postgresql://me@db/outlast")
    monkeypatch.setattr(question, "settings", lambda: made)
    monkeypatch.setattr(ingesting, "settings", lambda: made)
    return made


@pytest.mark.usefixtures("far")
async def test_with_a_shared_store_a_question_names_the_library(tmp_path: Path) -> None:
    """
    No task of it has a path of the starter's, then or later.
    """
    folder = folder_of(tmp_path / "documents", FILES)
    mission = question_mission("How long are backups kept?", folder, "q")
    tasks = {task.id: task for task in mission.tasks}

    assert list(tasks) == ["index", "plan"]
    assert tasks["index"].input == {"library": library_of(folder)}
    index = LibraryIndex(library="l1", documents=3, indexed=0, removed=0)
    needs = {"index": index.model_dump(mode="json")}
    order = planner.read(dict(tasks["plan"].input), needs)
    made = await planner(order, _Silent())
    assert str(tmp_path) not in mission.model_dump_json() + made.model_dump_json()
    review = next(task for task in made.tasks if task.id == "review")
    assert review.input == {"library": library_of(folder)}


@pytest.mark.usefixtures("far")
def test_the_same_question_is_the_same_mission(tmp_path: Path) -> None:
    """
    Asked again under its id it is joined, whatever has changed in the folder.
    """
    folder = folder_of(tmp_path / "documents", FILES)
    first = question_mission("How long?", folder, "q")
    (folder / "new.txt").write_text("Something new.")
    assert question_mission("How long?", folder, "q").digest() == first.digest()


def test_a_folder_is_ingested_and_followed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    All of it at first; later what is new, changed or gone.
    """
    folder = folder_of(tmp_path / "documents", FILES)
    monkeypatch.setattr(ingesting, "Store", lambda _: _Borrowed(store))
    first = ingesting.ingest(folder)
    assert first == ingesting.IngestReport(library_of(folder), 3, 3, 0, gaps=1)

    (folder / "broken.pdf").unlink()
    (folder / "new.txt").write_text("Something new.")
    assert ingesting.ingest(folder) == ingesting.IngestReport(
        first.library, 3, 1, 1, gaps=0
    )


class _Borrowed:
    """
    A store that is closed by the test it belongs to.
    """

    def __init__(self, store: Store) -> None:
        self.run, self.read, self.write = store.run, store.read, store.write
        self.extend = store.extend

    def close(self) -> None: ...
