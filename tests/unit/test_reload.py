"""
`dev` notices that agents' files have changed, and whether they can be loaded.
"""

import asyncio
from pathlib import Path

import pytest

from outlast.dev.reload import WatchedFolders, changes, file_of, why_not_loadable

GOOD = """
from outlast import agent
import helper

@agent("reloaded-{n}")
async def play(given: dict, ctx) -> dict:
    return {{}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "helper.py").write_text("X = 1\n")
    (tmp_path / "agents.py").write_text(GOOD.format(n=1))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "shop" / "refunds.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTLAST_AGENTS", "agents.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_module_is_found_without_importing_it(project: Path) -> None:
    """
    By its path or its name, from where the command was started.
    """
    assert file_of("agents.py") == project / "agents.py"
    assert file_of("agents") == project / "agents.py"
    assert file_of("shop.refunds") == project / "shop" / "refunds.py"
    assert file_of("shop") == project / "shop" / "__init__.py"
    assert file_of("no_such_module") is None
    assert file_of("agents.inner") is None


def test_modules_beside_count_and_nothing_else(project: Path) -> None:
    """
    By their content: an editor that saves the same text has changed nothing.
    """
    watched = WatchedFolders(["agents.py", "nowhere/agents.py"])
    (project / "agents.py").write_text(GOOD.format(n=1))
    (project / "notes.txt").write_text("x")
    (project / "shop" / "refunds.py").write_text("X = 1\n")
    assert watched.changed() == []
    (project / "helper.py").write_text("X = 2\n")
    (project / "more.py").write_text("")
    assert [each.name for each in watched.changed()] == ["helper.py", "more.py"]
    (project / "more.py").unlink()
    assert [each.name for each in watched.changed()] == ["more.py"]
    assert watched.changed() == []


async def test_a_change_is_noticed(project: Path) -> None:
    """
    Without looking all the time.
    """
    noticing = aiter(changes(["agents.py"]))
    noticed = asyncio.ensure_future(anext(noticing))
    for number in range(100):  # the watch begins when it does
        (project / "helper.py").write_text(f"X = {number}\n")
        done, _ = await asyncio.wait([noticed], timeout=0.5)
        if done:
            break
    assert [each.name for each in noticed.result()] == ["helper.py"]
    await noticing.aclose()  # type: ignore[attr-defined]


async def test_what_cannot_be_loaded_is_told_in_one_line(project: Path) -> None:
    """
    With the file and the line, from a process that ends again.
    """
    assert await why_not_loadable() is None
    (project / "agents.py").write_text("def broken(:\n")
    why = await why_not_loadable()
    assert why is not None
    assert "SyntaxError" in why
    assert "agents.py" in why
    assert "1" in why
