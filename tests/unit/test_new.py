"""
`outlast new` writes a project, or says in one sentence why not.
"""

from pathlib import Path

import pytest

from outlast.cli.new import write_project
from outlast.contracts.errors import BadInputError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "words"


def test_the_example_is_what_is_written(tmp_path: Path) -> None:
    """
    File for file: whoever changes the one changes the other.
    """
    folder = tmp_path / "words"
    written = write_project(folder)
    assert sorted(each for each in folder.rglob("*") if each.is_file()) == sorted(
        written
    )
    for each in written:
        theirs = EXAMPLE / each.relative_to(folder)
        assert theirs.read_text() == each.read_text(), theirs


def test_names_follow_the_folder(tmp_path: Path) -> None:
    """
    A dash is no letter of a module's name, and an empty folder is used.
    """
    (tmp_path / "My-Shop").mkdir()
    write_project(tmp_path / "My-Shop")
    project = (tmp_path / "My-Shop" / "pyproject.toml").read_text()
    assert 'name = "my-shop"' in project
    assert 'agents = ["my_shop.agents"]' in project
    assert (tmp_path / "My-Shop" / "my_shop" / "agents.py").is_file()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("full", "is there and not empty"),
        ("file", "is there and not empty"),
        ("file/below", "cannot be"),
        ("7up", "is no name for a module"),
        ("class", "is no name for a module"),
        ("json", "there is a module 'json' already"),
        ("outlast", "there is a module 'outlast' already"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, name: str, told: str) -> None:
    """
    And nothing that was there is touched.
    """
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInputError, match=told) as error:
        write_project(tmp_path / name)
    assert "\n" not in str(error.value)
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["kept"]
    assert (tmp_path / "file").read_text() == "mine"
