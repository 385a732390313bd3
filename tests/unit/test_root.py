"""
Below OUTLAST_DOCUMENTS_ROOT everything may be read, and nothing else, whichever way a
mission points there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from document_fakes import folder_of
from unit_fakes import told_in_one_sentence

from activities.answering.handover import Citation
from activities.librarian import Document, indexer, librarian, shelver
from activities.reviewer import stands
from activities.support import clerk
from outlast import testing
from outlast.contracts.errors import GiveUp, OutsideError
from outlast.store import database
from outlast.store.database import Store
from outlast.store.folder import look, scan
from outlast.store.library import library_id
from outlast.store.parsing import UnreadableDocumentError, load
from outlast.store.root import confine, within

FILES = {
    "root/team/a.md": "Apples are red.",
    "root/team/deep/b.md": "Bananas are yellow.",
    "root/other/c.md": "Cherries are dark.",
    "outside/secret.md": "The safe opens with 4711.",
    "root-too/d.md": "Dates are brown.",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """
    A folder with a root and things beside it, in a process that is confined.
    """
    folder_of(tmp_path, FILES)
    confine(tmp_path / "root")
    yield tmp_path
    confine(None)


@pytest.fixture
def shared(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(database, "_shared", store)
    return store


def refusal(named: Path) -> str:
    with pytest.raises(OutsideError) as error:
        within(named)
    return told_in_one_sentence(error.value)


def test_what_is_inside_may_be_read(place: Path) -> None:
    """
    By its whole path, by one from the root, by the root itself and with `..` inside.
    """
    team = (place / "root/team").resolve()
    assert within(place / "root/team") == team
    assert within(Path("team")) == team
    assert within(place / "root") == team.parent
    assert within(Path("other/../team")) == team
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
    with pytest.raises(OutsideError):
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
    confine(place / "link")
    assert within(Path("team")) == (place / "root/team").resolve()
    assert within(place / "root/team") == (place / "root/team").resolve()

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
    confine(None)
    assert within(place / "outside") == place / "outside"
    assert [each.path for each in scan(place / "outside")] == ["secret.md"]


def test_a_file_that_became_a_link_outside_is_not_read(place: Path) -> None:
    """
    What was a document when the folder was scanned is looked at again to be read.
    """
    (listed,) = [each for each in scan(Path("team")) if each.path == "a.md"]
    listed.file.unlink()
    listed.file.symlink_to(place / "outside/secret.md")

    with pytest.raises(UnreadableDocumentError, match="outside OUTLAST_DOCUMENTS_ROOT"):
        load(listed.file)
    assert look(Path("team"), "a.md").problem == "leads outside its folder"


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
        confine(None)
    named = path.format(place=place)
    listed = look(place / "root", named)
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
            await testing.run(agent, {"documents": str(place / named)})


async def test_an_item_that_names_a_file_outside_is_given_up(
    place: Path, shared: Store
) -> None:
    """
    The pool's agents read what an item names, and items may come from anybody.
    """
    outside = Document(library="l1", folder=place / "outside", path="a.md", at=1)
    with pytest.raises(GiveUp, match="OUTLAST_DOCUMENTS_ROOT"):
        await indexer([outside], _Silent())

    ticket = {
        "ticket": str(place / "outside/secret.md"),
        "library": "l1",
        "outbox": str(place / "out"),
    }
    with pytest.raises(GiveUp, match=r"secret\.md is outside OUTLAST_DOCUMENTS_ROOT"):
        await testing.run(clerk, ticket)


class _Silent:
    def emit(self, event: str) -> None:
        """
        Tell nobody.
        """


async def test_the_reviewer_reads_nothing_outside(place: Path) -> None:
    """
    A quotation from beside the root is not even looked at.
    """
    citation = Citation(document="secret.md", line=1, quote="The safe opens with 4711.")
    with pytest.raises(GiveUp):
        await stands(place / "outside", "", citation)
    confine(None)
    assert await stands(place / "outside", "", citation)


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
