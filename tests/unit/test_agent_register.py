"""
One role has one agent, under however many names its module is imported.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from unit_fakes import told_in_one_sentence

from outlast.agents import registry
from outlast.contracts.errors import BadInputError

ONE = """
from functools import partial
from outlast import agent

@agent("it")
async def it(given: dict, ctx): ...

async def sized(size, given: dict, ctx): ...

sized_small = agent("sized")(partial(sized, "small"))
"""
OTHER = ONE.replace("async def it(", "# another file\nasync def it(")


@pytest.fixture(autouse=True)
def _own_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})


def imported(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def written(folder: Path, text: str, name: str = "one.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_imported_under_two_names_is_one_agent(tmp_path: Path) -> None:
    """
    By path and by dotted name, or by two others that both have it.
    """
    path = written(tmp_path, ONE)
    imported(path, "one_by_name")
    imported(path, "one_by_path")
    assert set(registry.registered_agents()) == {"it", "sized"}


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    """
    A project's folder may be reached by two ways.
    """
    path = written(tmp_path, ONE)
    link = tmp_path / "link.py"
    link.symlink_to(path)
    imported(path, "one_by_name")
    imported(link, "one_by_link")


def test_a_reloaded_module_is_the_same(tmp_path: Path) -> None:
    """
    What is imported again takes the place of what it was.
    """
    path = written(tmp_path, ONE.split("async def sized", maxsplit=1)[0])
    module = imported(path, "one_reloaded")
    first = registry.registered_agents()["it"]
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
    assert registry.registered_agents()["it"] is not first


def test_two_functions_for_one_role_are_refused(tmp_path: Path) -> None:
    """
    Naming both files and lines.
    """
    imported(written(tmp_path, ONE), "first")
    with pytest.raises(BadInputError) as refused:
        imported(written(tmp_path, OTHER, "other.py"), "second")
    text = told_in_one_sentence(refused.value)
    assert "two agents play 'it'" in text
    assert "one.py:5" in text
    assert "other.py:5" in text


@pytest.mark.parametrize(
    "more",
    [
        '@agent("it")\nasync def it(given: dict, ctx): ...\n',
        '@agent("it")\nasync def other(given: dict, ctx): ...\n',
        'agent("sized")(partial(sized, "large"))\n',
        'for size in "ab":\n    agent("loop")(partial(sized, size))\n',
    ],
)
def test_two_in_one_file_are_refused(tmp_path: Path, more: str) -> None:
    """
    Also of one name, and also made of one function.
    """
    with pytest.raises(BadInputError, match="two agents play"):
        imported(written(tmp_path, ONE + more), "twice")


def test_what_is_typed_again_takes_the_place_of_what_it_was() -> None:
    """
    A notebook's cell is run again after a change, and is in no file.
    """
    space = {"__name__": "notebook"}
    for line in ("", "\n\n"):
        text = line + ONE.split("async def sized", maxsplit=1)[0]
        exec(compile(text, "<cell>", "exec"), space)
    assert "it" in registry.registered_agents()
