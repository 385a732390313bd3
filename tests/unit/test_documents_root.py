"""
Below OUTLAST_DOCUMENTS_ROOT everything may be read, and nothing else, whichever way a
mission points there.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from document_fakes import Trials
from unit_fakes import told_in_one_sentence

from outlast import Task, testing
from outlast.agents.agent_check import require_fitting_inputs
from outlast.agents.agent_loading import load_agents
from outlast.contracts.errors import BadInputError, GiveUp, OutsideFolderError
from outlast.crew.agents import CREW_MODULES, modules
from outlast.crew.crew_models import Citation
from outlast.crew.librarian import Document, indexer, librarian, shelver
from outlast.crew.library.documents_root import documents_root, resolve_within
from outlast.crew.library.folder import scan, stat_document
from outlast.crew.library.library import library_id
from outlast.crew.library.parsing import UnreadableDocumentError, load
from outlast.crew.output_path import writable as crew_writable
from outlast.crew.publisher import write
from outlast.crew.reviewer import is_in_source
from outlast.crew.settings import settings as crew_settings
from outlast.crew.tickets import clerk, post
from outlast.settings import Settings
from outlast.store.database import Store
from outlast.store.output_roots import set_roots, writable, writing_within
from tests.unit.document_fakes import folder_of

FILES = {
    "root/team/a.md": "Apples are red.",
    "root/team/deep/b.md": "Bananas are yellow.",
    "root/other/c.md": "Cherries are dark.",
    "outside/secret.md": "The safe opens with 4711.",
    "root-too/d.md": "Dates are brown.",
}

TRIALS = Trials()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """
    A folder with a root and things beside it, in a process that is confined.
    """
    folder_of(tmp_path, FILES)
    documents_root.value = tmp_path / "root"
    yield tmp_path
    documents_root.value = None
    set_roots(None)


@pytest.fixture
def shared(store: Store) -> Store:
    TRIALS.store = store
    return store


def refusal(named: Path) -> str:
    with pytest.raises(OutsideFolderError) as error:
        resolve_within(named)
    return told_in_one_sentence(error.value)


def test_what_is_inside_may_be_read(place: Path) -> None:
    """
    By its whole path, by one from the root, by the root itself and with `..` inside.
    """
    team = (place / "root/team").resolve()
    assert resolve_within(place / "root/team") == team
    assert resolve_within(Path("team")) == team
    assert resolve_within(place / "root") == team.parent
    assert resolve_within(Path("other/../team")) == team
    assert [each.path for each in scan(Path("team"))] == ["a.md", "deep/b.md"]


@pytest.mark.parametrize(
    "named",
    ["outside", "root/../outside", "root-too", "root/team/../../outside", "", "/etc"],
)
def test_what_is_outside_is_refused(place: Path, named: str) -> None:
    """
    A neighbour, `..`, a name that only begins alike, the folder above: one sentence.
    """
    told = refusal(place / named)
    assert "OUTLAST_DOCUMENTS_ROOT" in told
    with pytest.raises(OutsideFolderError):
        scan(place / named)


def test_a_path_from_the_root_may_not_climb_out(place: Path) -> None:
    """
    A relative path starts at the root, wherever the worker was started.
    """
    assert "../outside" in refusal(Path("../outside"))


def test_a_link_that_leads_outside_is_refused(place: Path) -> None:
    """
    A folder within the root that is a link to elsewhere, or is reached through one.
    """
    (place / "root/way-out").symlink_to(place / "outside")
    (place / "outside/sub").mkdir()
    refusal(place / "root/way-out")
    refusal(place / "root/way-out/sub")


def test_a_link_to_a_sibling_inside_is_followed(place: Path) -> None:
    """
    Where a link leads decides, not that it is one.
    """
    (place / "root/current").symlink_to(place / "root/team")
    assert [each.path for each in scan(place / "root/current")] == [
        "a.md",
        "deep/b.md",
    ]


def test_the_root_itself_may_be_a_link(place: Path) -> None:
    """
    It is resolved as it stands at the moment: switched over, the old one is outside.
    """
    (place / "link").symlink_to(place / "root")
    documents_root.value = place / "link"
    assert resolve_within(Path("team")) == (place / "root/team").resolve()
    assert resolve_within(place / "root/team") == (place / "root/team").resolve()

    (place / "link").unlink()
    (place / "link").symlink_to(place / "outside")
    refusal(place / "root/team")
    assert [each.path for each in scan(place / "link")] == ["secret.md"]


def test_a_name_that_no_file_can_have_is_refused(place: Path) -> None:
    """
    It is no path, and no retry makes it one.
    """
    assert "is no path" in refusal(Path("team\0"))


def test_a_circle_of_links_leads_nowhere(place: Path) -> None:
    """
    A folder that is a link to itself is inside, and is not there.
    """
    (place / "root/circle").symlink_to(place / "root/circle")
    with pytest.raises((OSError, RuntimeError)):
        scan(place / "root/circle")


def test_without_a_root_everything_may_be_read(place: Path) -> None:
    """
    On one machine of one user there is nothing to guard.
    """
    documents_root.value = None
    assert resolve_within(place / "outside") == place / "outside"
    assert [each.path for each in scan(place / "outside")] == ["secret.md"]


def test_the_root_of_a_worker_is_that_of_its_start(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whole, before an agent can change the folder; a variable that is empty, as compose
    files leave it, is no folder.
    """
    monkeypatch.chdir(place)
    monkeypatch.setenv("OUTLAST_DOCUMENTS_ROOT", "root")
    assert documents_root() == place / "root"
    monkeypatch.setenv("OUTLAST_DOCUMENTS_ROOT", "")
    assert documents_root() is None


def test_a_root_that_is_no_folder_is_refused_by_workers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And not by starters, which may be on another host.
    """
    monkeypatch.setenv("OUTLAST_DOCUMENTS_ROOT", str(place / "nowhere"))
    assert modules(for_workers=False) == CREW_MODULES
    with pytest.raises(BadInputError) as error:
        modules(for_workers=True)
    assert "is not a folder" in told_in_one_sentence(error.value)


def test_a_file_that_became_a_link_outside_is_not_read(place: Path) -> None:
    """
    What was a document when the folder was scanned is looked at again to be read.
    """
    (listed,) = [each for each in scan(Path("team")) if each.path == "a.md"]
    listed.file.unlink()
    listed.file.symlink_to(place / "outside/secret.md")

    with pytest.raises(UnreadableDocumentError, match="outside OUTLAST_DOCUMENTS_ROOT"):
        load(listed.file)
    assert stat_document(Path("team"), "a.md").problem == "leads outside its folder"


@pytest.mark.parametrize("path", ["../outside/secret.md", "{place}/outside/secret.md"])
@pytest.mark.parametrize("confined", [True, False])
def test_a_document_leads_nowhere_but_into_its_folder(
    place: Path, path: str, confined: bool
) -> None:
    """
    Whoever names a document by a path of their own gets none from beside the folder,
    with a root or without.
    """
    if not confined:
        documents_root.value = None
    named = path.format(place=place)
    listed = stat_document(place / "root", named)
    assert listed.problem == "leads outside its folder"


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("agent", [shelver, librarian])
async def test_a_mission_that_names_a_folder_outside_is_given_up(
    place: Path, agent: testing.Agent
) -> None:
    """
    No retry helps: the reason says where the limit is.
    """
    for named in ("outside", "root/../outside"):
        with pytest.raises(GiveUp, match="outside OUTLAST_DOCUMENTS_ROOT"):
            await TRIALS.run(agent, {"documents": str(place / named)})


async def test_an_item_that_names_a_file_outside_is_given_up(
    place: Path, shared: Store
) -> None:
    """
    The pool's agents read what an item names, and items may come from anybody.
    """
    outside = Document(library="l1", folder=place / "outside", path="a.md", at=1)
    with pytest.raises(GiveUp, match="OUTLAST_DOCUMENTS_ROOT"):
        await indexer([outside], _Silent(shared))

    ticket = {
        "ticket": str(place / "outside/secret.md"),
        "library": "l1",
        "outbox": str(place / "out"),
    }
    with pytest.raises(GiveUp, match=r"secret\.md is outside OUTLAST_DOCUMENTS_ROOT"):
        await TRIALS.run(clerk, ticket)


class _Silent:
    def __init__(self, store: Store) -> None:
        self.store = store

    def emit(self, event: str) -> None:
        """
        Tell nobody.
        """


async def test_the_reviewer_reads_nothing_outside(place: Path, store: Store) -> None:
    """
    A quotation from beside the root is not even looked at.
    """
    citation = Citation(document="secret.md", line=1, quote="The safe opens with 4711.")
    with pytest.raises(GiveUp):
        await is_in_source(store, place / "outside", "", citation)
    documents_root.value = None
    assert await is_in_source(store, place / "outside", "", citation)


def test_the_library_of_a_folder_is_one_whatever_it_is_called(place: Path) -> None:
    """
    By a path from the root or by its whole one it is the same index.
    """
    assert library_id("t", Path("team")) == library_id("t", place / "root/team")
    assert library_id("t", Path("team")) != library_id("t", Path("other"))


def test_folders_of_one_path_on_two_hosts_are_two_libraries(place: Path) -> None:
    """
    What one starter has ingested no other one takes for its own.
    """
    hosts = {library_id("t", Path("team"), *host) for host in ((), ("a",), ("b",))}
    assert len(hosts) == 3


@pytest.fixture
def output(place: Path) -> Path:
    """
    The same, with a home and a root that files may be written below.
    """
    (place / "home").mkdir()
    documents_root.value = None
    set_roots([place / "root", place / "home"])
    return place


def test_files_are_written_below_the_roots(output: Path) -> None:
    """
    By a whole path, by one from the first root, in folders that are not there yet.
    """
    assert writable(output / "home/reports") == output / "home/reports"
    assert writable(Path("out/box")) == output / "root/out/box"
    assert writable(output / "root/x/../y") == output / "root/y"


@pytest.mark.parametrize(
    "named", ["store.db", "store.db-wal", "run/x", "mesh", "temporal.db", "stack.lock"]
)
def test_the_homes_own_state_is_no_output(output: Path, named: str) -> None:
    """
    Though it lies in the home: also by a link within it, or by a root above it.
    """
    (output / "home/way").symlink_to(output / "home")
    set_roots([output, output / "home"])
    for each in (output / "home" / named, output / "home/way" / named):
        with pytest.raises(OutsideFolderError, match="own state"):
            writable(each)
    assert writable(output / "root" / named) == output / "root" / named


OUTSIDE = ["outside", "root/../outside", "root-too", "home/../../x", "", "root/way-out"]


@pytest.mark.parametrize("named", OUTSIDE)
def test_no_file_is_written_outside(output: Path, named: str) -> None:
    """
    A neighbour, `..`, a name that only begins alike, a link that leads out.
    """
    (output / "root/way-out").symlink_to(output / "outside")
    for each in (output / named, output / named / "deeper"):
        with pytest.raises(OutsideFolderError) as error:
            writable(each)
        assert "OUTLAST_OUTPUT_ROOT" in told_in_one_sentence(error.value)


def orders(outside: Path) -> list[tuple[str, dict[str, Any]]]:
    """
    What a mission says to each agent that writes where it is told.
    """
    said = str(outside)
    handed = {"question": "q", "mission": "m", "documents": "d"}
    return [
        ("planner", {**handed, "reports": said}),
        ("publisher", {"reports": said, "mission": "m"}),
        ("mailroom", {"tickets": "t", "outbox": said}),
        ("clerk", {"ticket": "t", "library": "l", "outbox": said}),
        ("tally", {"outbox": said}),
    ]


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("named", OUTSIDE)
def test_a_mission_that_would_write_outside_is_refused(
    output: Path, at: int, named: str
) -> None:
    """
    Before it starts, and by the worker that gets it all the same, which may be another
    host: for every agent of ours that writes where a mission says.
    """
    (output / "root/way-out").symlink_to(output / "outside")
    role, given = orders(output / named / "deeper")[at]
    agents = load_agents(CREW_MODULES)
    task = Task(id="t", role=role, input=given)
    with pytest.raises(BadInputError, match=rf"{role}.*OUTLAST_OUTPUT_ROOT"):
        require_fitting_inputs([task], agents)
    with pytest.raises(GiveUp, match="OUTLAST_OUTPUT_ROOT"):
        agents[role].read(given, {"x": {}} if agents[role].input.takes_needs else {})


@pytest.mark.usefixtures("output")
def test_a_rehearsal_writes_among_temporary_files_alone() -> None:
    """
    Where drills are, and nowhere else that is not for output.
    """
    (rehearse,) = (
        each for each in load_agents(CREW_MODULES).values() if each.role == "rehearse"
    )
    fine = {"steps": 1, "log": f"{tempfile.gettempdir()}/drill/log"}
    assert rehearse.read(fine, {}).log == Path(fine["log"]).resolve()
    with pytest.raises(GiveUp, match="OUTLAST_OUTPUT_ROOT"):
        rehearse.read({"steps": 1, "log": "/etc/cron.d/x"}, {})


def test_a_link_that_has_come_since_is_not_written_through(output: Path) -> None:
    """
    What was inside when the mission was read leads outside when the report is written.
    """
    (output / "root/reports").symlink_to(output / "outside")
    with pytest.raises(OutsideFolderError):
        write(output / "root/reports/m.md", "x")
    (output / "root/m.md").symlink_to(output / "outside/secret.md")
    with pytest.raises(OutsideFolderError):
        write(output / "root/m.md", "x")
    assert (output / "outside/secret.md").read_text() == FILES["outside/secret.md"]


def test_what_is_written_is_its_owners_alone(output: Path) -> None:
    """
    Reports, replies and the log of what was posted, whatever the umask is.
    """
    before = os.umask(0)
    try:
        write(output / "root/reports/m.md", "x")
        post(output / "root/box/reply.txt", "key", "x")
    finally:
        os.umask(before)
    made = [*(output / "root/reports").iterdir(), *(output / "root/box").iterdir()]
    assert len(made) == 3
    assert {each.stat().st_mode & 0o777 for each in made} == {0o600}
    assert {each.parent.stat().st_mode & 0o777 for each in made} == {0o700}


def test_a_starter_judges_for_a_while(output: Path) -> None:
    """
    In a program of the user's own nothing is limited after it.
    """
    set_roots(None)
    with writing_within([output / "home"]), pytest.raises(OutsideFolderError):
        writable(output / "outside")
    assert writable(output / "outside") == output / "outside"


def test_a_worker_that_does_not_know_others_roots_keeps_its_own(output: Path) -> None:
    """
    What it checks for others, as follow-ups, it may have to write itself.
    """
    with writing_within(None), pytest.raises(OutsideFolderError):
        writable(output / "outside")


def test_relative_paths_start_at_the_output_root_or_the_home(tmp_path: Path) -> None:
    """
    By the order of the roots, the home being the last.
    """
    home, root = tmp_path / "home", tmp_path / "root"
    try:
        for chosen, first in [
            (Settings(home=home), home),
            (Settings(home=home, output_root=root), root),
        ]:
            set_roots(chosen.output_roots)
            assert writable(Path("box")) == first / "box"
            assert writable(home / "reports") == home / "reports"
    finally:
        set_roots(None)


def test_reports_have_a_folder_that_is_as_good_as_the_roots(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    For all that the crew writes; relative paths never start there.
    """
    reports = output / "reports"
    with pytest.raises(OutsideFolderError):
        crew_writable(reports / "m.md")
    monkeypatch.setenv("OUTLAST_REPORTS", str(reports))
    assert crew_writable(reports / "m.md") == reports / "m.md"
    assert write(reports / "m.md", "x") == str(reports / "m.md")
    assert crew_writable(Path("box")) == output / "root/box"
    assert crew_settings().reports_below(output / "home") == reports
    task = Task(
        id="t", role="publisher", input={"reports": str(reports), "mission": "m"}
    )
    require_fitting_inputs([task], load_agents(CREW_MODULES))
