"""
Which project a folder belongs to, and what its pyproject.toml may say.
"""

import os
import sys
from pathlib import Path

import pytest

from outlast import settings as module
from outlast.agents.importing import import_agents
from outlast.agents.project import importable, project_of, upwards
from outlast.contracts.errors import BadInputError

TABLE = '[tool.outlast]\nagents = ["shop.agents", "more.py"]\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep" / "down").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(TABLE)
    return folder


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, root: Path) -> module.Settings:
    """
    The settings of somebody who is far down in the project.
    """
    for name in ("OUTLAST_AGENTS", "OUTLAST_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root / "deep" / "down")
    return module.settings.__wrapped__()


def test_it_is_found_from_below(root: Path) -> None:
    """
    Past a pyproject.toml that says nothing of us; files get their whole path.
    """
    (root / "deep" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    found = project_of(root / "deep" / "down")
    assert found is not None
    assert found.root == root
    assert found.modules == ("shop.agents", str(root / "more.py"))
    assert project_of(root.parent) is None


def test_settings_are_the_projects(chosen: module.Settings, root: Path) -> None:
    """
    In each of its folders the same agents and the same home.
    """
    assert chosen.users_modules == ["shop.agents", str(root / "more.py")]
    assert chosen.home == root / ".outlast"


def test_the_environment_goes_first(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """
    Also as the nearest .env says it.
    """
    monkeypatch.setenv("OUTLAST_HOME", "elsewhere")
    monkeypatch.setenv("OUTLAST_AGENTS", "")  # as compose files leave it
    monkeypatch.chdir(root / "deep" / "down")
    (root / ".env").write_text("OUTLAST_SLOTS=7\n")
    monkeypatch.setenv("OUTLAST_SLOTS", "4")
    monkeypatch.delenv("OUTLAST_SLOTS")  # and so what the file sets is put back
    found = module.settings.__wrapped__()
    assert found.home == Path("elsewhere")
    assert found.slots == 7
    assert found.users_modules[0] == "shop.agents"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.outlast\n", "cannot be read"),
        ("[tool]\noutlast = 3\n", "must be a table"),
        ("[tool.outlast]\nagent = ['a']\n", "agent: extra inputs"),
        ("[tool.outlast]\nagents = 'a'\n", "agents: input should be a valid list"),
        ("[tool.outlast]\nagents = [3]\n", r"agents\.0: input should be a valid"),
    ],
)
def test_a_broken_table_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    """
    Which names the file.
    """
    file = tmp_path / "pyproject.toml"
    file.write_text(text)
    with pytest.raises(BadInputError, match=told) as error:
        project_of(tmp_path)
    assert str(error.value).startswith(f"{file}")
    assert "\n" not in str(error.value)


def test_a_broken_file_that_does_not_name_us_is_anothers(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other\n")
    assert project_of(tmp_path) is None


def test_what_others_could_have_put_above_is_passed_over(root: Path) -> None:
    """
    It names modules that are imported; in the current folder it is the user's choice.
    """
    (root / "pyproject.toml").chmod(0o666)
    assert list(upwards(root / "deep", "pyproject.toml")) == []
    assert list(upwards(root, "pyproject.toml")) == [root / "pyproject.toml"]
    if os.getuid() == 0:
        (root / "pyproject.toml").chmod(0o644)
        os.chown(root / "pyproject.toml", 4711, 4711)
        assert list(upwards(root / "deep", "pyproject.toml")) == []


def test_modules_are_found_from_below(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """
    With their siblings, also in a folder that is no package, or below `src`.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(root / "deep")
    (root / "src" / "pk_below").mkdir(parents=True)
    (root / "src" / "pk_below" / "words.py").write_text("X = 3\n")
    (root / "src" / "pk_below" / "play.py").write_text("from .words import X\n")
    assert importable() == [root, root / "src", root / "deep"]
    assert import_agents("pk_below.play").X == 3
