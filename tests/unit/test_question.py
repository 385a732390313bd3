"""
What a user asks, and of which folder: a mission, or one sentence on what to change.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.crew.commands import question
from outlast.settings import Settings


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A home in the test's folder.
    """
    chosen = Settings(home=tmp_path / "home")
    monkeypatch.setattr(question, "settings", lambda: chosen)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "note.txt").write_text("The heating is checked in May.")
    return folder


def refusal(act: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(BadInputError) as error:
        act(*args)
    return told_in_one_sentence(error.value)


def test_a_question_is_a_mission(documents: Path) -> None:
    """
    The librarian indexes, the planner plans; the rest follows.
    """
    made = question.question_mission("When is  it\nchecked?", documents, "q1")
    assert made.id == "q1"
    assert made.goal == "When is it checked?"
    assert [each.role for each in made.tasks] == ["shelver", "librarian", "planner"]
    assert [each.needs for each in made.tasks] == [[], ["shelve"], ["index"]]
    assert made.tasks[2].input["documents"] == str(documents)


def test_the_same_question_is_the_same_mission(documents: Path) -> None:
    """
    Asked again under its id, it is joined and not refused.
    """
    first = question.question_mission("When?", documents, "q1")
    again = question.question_mission(" When? ", documents / ".", "q1")
    assert first.digest() == again.digest()


@pytest.mark.parametrize("asked", ["", "   ", "\n\t", "\u2003"], ids=repr)
def test_an_empty_question_is_refused(documents: Path, asked: str) -> None:
    """
    There is nothing to answer.
    """
    told = refusal(question.question_mission, asked, documents, None)
    assert told == "the question is empty"


def test_a_question_over_the_cap_is_refused(documents: Path) -> None:
    """
    A question is no document; exactly the cap is one.
    """
    most = question.QUESTION_CHARS
    question.question_mission("x" * most, documents, None)
    told = refusal(question.question_mission, "x" * (most + 1), documents, None)
    assert str(most) in told


def test_a_question_that_is_no_text_is_refused(documents: Path) -> None:
    """
    Bytes that the terminal could not read are bad input.
    """
    assert refusal(question.question_mission, "caf\udce9?", documents, None)


@pytest.mark.parametrize("bad", ["a b", "", "a/b", "x" * 101], ids=repr)
def test_a_question_with_a_bad_id_is_refused(documents: Path, bad: str) -> None:
    """
    The id that was asked for is used or refused, never mended in silence.
    """
    if bad:
        told = refusal(question.question_mission, "When?", documents, bad)
        assert told.startswith("the mission's id: ")
    else:
        assert question.question_mission("When?", documents, bad).id.startswith("ask-")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """
    The sentence names the folder as it was given.
    """
    folder = tmp_path / "nowhere"
    told = refusal(question.question_mission, "When?", folder, None)
    assert told == f"there is no folder {folder}"


def test_a_file_instead_of_a_folder_is_refused(documents: Path) -> None:
    """
    Documents are given by their folder.
    """
    note = documents / "note.txt"
    told = refusal(question.question_mission, "When?", note, None)
    assert told == f"{note} is not a folder"


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    """
    What holds nothing that can be read cannot answer; hidden files do not count.
    """
    (tmp_path / ".hidden.txt").write_text("x")
    (tmp_path / "picture.png").write_bytes(b"x")
    told = refusal(question.question_mission, "When?", tmp_path, None)
    assert "no document" in told


def test_a_folder_that_may_not_be_read_is_refused(
    documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A locked folder is not taken for an empty one.
    """

    def locked(folder: Path) -> list[Any]:
        raise PermissionError(13, "Permission denied", str(folder))

    if os.geteuid() == 0:
        monkeypatch.setattr(question, "scan", locked)  # chmod refuses root nothing
    else:
        documents.chmod(0)
    try:
        told = refusal(question.question_mission, "When?", documents, None)
    finally:
        documents.chmod(0o700)
    assert told == f"the folder {documents} cannot be read: Permission denied"


def test_a_folder_behind_a_locked_one_is_refused(
    documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not even to be allowed to look is bad input too.
    """

    def locked(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    inside = documents / "inside"
    inside.mkdir()
    if os.geteuid() == 0:
        monkeypatch.setattr(Path, "stat", locked)
    else:
        documents.chmod(0)
    try:
        told = refusal(question.question_mission, "When?", inside, None)
    finally:
        monkeypatch.undo()
        documents.chmod(0o700)
    assert "Permission denied" in told


def test_a_folder_in_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    """
    A link to itself leads nowhere.
    """
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert str(circle) in refusal(question.question_mission, "When?", circle, None)


@pytest.mark.parametrize(
    "folder", ["~nobody-of-this-name/documents", "x" * 300], ids=["home", "long"]
)
def test_a_folder_that_cannot_be_named_is_refused(folder: str) -> None:
    """
    An unknown user's home and a name longer than any are no folders.
    """
    assert refusal(question.question_mission, "When?", Path(folder), None)


@pytest.mark.parametrize(
    "name",
    ["Größe 1", "at 10.00\u202fPM", "\u3000資料", "a\u00a0b", "👩\u200d🔬"],
    ids=ascii,
)
def test_a_folder_may_have_any_name_that_is_text(tmp_path: Path, name: str) -> None:
    """
    Odd spaces and joiners are text, and systems put them into names by themselves.
    """
    folder = tmp_path / name
    folder.mkdir()
    (folder / "note.txt").write_text("x")
    made = question.question_mission("When?", folder, None)
    assert made.tasks[0].input["documents"] == str(folder)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """
    A mission could not carry its path: said before anything starts.
    """
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "note.txt").write_text("x")
    told = refusal(question.question_mission, "When?", folder, None)
    assert told.encode()
