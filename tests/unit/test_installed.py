"""
What installed packages add comes by entry points: agents and verbs, the crew's too.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.crew.agents import CREW_MODULES
from outlast.process import installed
from outlast.process.installed import (
    AGENTS_GROUP,
    COMMANDS_GROUP,
    agent_modules,
    entry_points_of,
)

ROOT = Path(__file__).parents[2]
MODULE = """
import typer
from outlast.contracts.errors import BadInputError

app = typer.Typer()

@app.command()
def hello() -> None:
    "Say hello."
    print("hello from a package")

@app.command("list")
def list_() -> None:
    "Never seen: the verb is the engine's."
    print("not this one")

def modules(plays: bool) -> list[str]:
    return ["theirs.agents", *(["theirs.heavy"] if plays else [])]

def refuse(plays: bool) -> list[str]:
    raise BadInputError("THEIRS_URL is missing")

def fail(plays: bool) -> list[str]:
    raise RuntimeError("no network")
"""


class Site:
    """
    A folder of installed packages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "added_by_theirs.py").write_text(MODULE)

    def install(self, group: str, *values: str, name: str = "theirs") -> None:
        """
        Install a package called *name* with these entry points.
        """
        meta = self.path / f"{name}-1.0.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        lines = [f"e{at} = {value}" for at, value in enumerate(values)]
        (meta / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    agent_modules.cache_clear()
    yield Site(folder)
    agent_modules.cache_clear()


def values(group: str) -> list[str]:
    return [each.value for each in entry_points_of(group)]


def test_a_checkout_says_what_the_crew_adds() -> None:
    """
    It need not be installed.
    """
    assert values(AGENTS_GROUP)[0] == "outlast.crew.agents:modules"
    assert values(COMMANDS_GROUP)[0] == "outlast.crew.commands:app"
    assert agent_modules(for_workers=False)[: len(CREW_MODULES)] == CREW_MODULES


def test_what_an_older_checkout_had_installed_does_not_count(site: Site) -> None:
    """
    An editable install keeps the entry points of its day.
    """
    site.install(AGENTS_GROUP, "outlast.crew.gone", name="outlast")
    assert values(AGENTS_GROUP) == ["outlast.crew.agents:modules"]


def test_without_a_checkout_the_installed_package_says_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Also where the project beside it is a user's own, with a name of its own.
    """
    site.install(AGENTS_GROUP, "outlast.crew.agents:modules", name="outlast")
    project = site.path / "pyproject.toml"
    monkeypatch.setattr(installed, "PROJECT_FILE", project)
    assert values(AGENTS_GROUP) == ["outlast.crew.agents:modules"]
    project.write_text('[project]\nname = "shop"\n')
    assert values(AGENTS_GROUP) == ["outlast.crew.agents:modules"]


def test_a_package_names_a_module_or_lists_some(site: Site) -> None:
    """
    After the crew's; what only those need who play agents is theirs alone.
    """
    site.install(AGENTS_GROUP, "theirs.more", "added_by_theirs:modules")
    names = agent_modules(for_workers=False)
    assert names == [*CREW_MODULES, "theirs.more", "theirs.agents"]
    assert agent_modules(for_workers=True) == [*names, "theirs.heavy"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("added_by_theirs:refuse", "THEIRS_URL is missing"),
        (
            "added_by_theirs:fail",
            f"{AGENTS_GROUP} e0 (added_by_theirs:fail) cannot be used",
        ),
        ("added_by_theirs:gone", "cannot be used: AttributeError"),
        ("nowhere_at_all:modules", "cannot be used: ModuleNotFoundError"),
    ],
)
def test_agents_that_cannot_be_listed_are_refused(
    site: Site, value: str, told: str
) -> None:
    """
    In one sentence that names the package's entry: a fleet that leaves them out would
    park their tasks.
    """
    site.install(AGENTS_GROUP, value)
    with pytest.raises(BadInputError) as error:
        agent_modules(for_workers=True)
    assert told in told_in_one_sentence(error.value)


def python(site: Site, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAST_")}
    path = os.pathsep.join([str(ROOT), str(site.path)])
    home = str(site.path / "home")
    return subprocess.run(
        [sys.executable, *words],
        cwd=site.path,
        env={**known, "PYTHONPATH": path, "OUTLAST_HOME": home, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


WITHOUT = """
import sys

sys.modules |= dict.fromkeys(("docx", "lxml", "pypdf", "snowballstemmer"))
"""


def test_without_its_extra_the_crew_is_not_there(site: Site) -> None:
    """
    The engine is whole: other agents are loaded, and every verb but two has its use.
    """
    asked = (
        "from outlast.agents.agent_loading import load_agents\n"
        "from outlast.settings import settings\n"
        "print(*load_agents(settings().worker_modules))"
    )
    agents = Path(site.path / "mine.py")
    agents.write_text(
        "import outlast\n@outlast.agent('mine')\ndef mine(given, ctx): ...\n"
    )
    said = python(site, "-c", WITHOUT + asked, OUTLAST_AGENTS=str(agents))
    assert said.stdout == "mine\n"


@pytest.mark.parametrize(
    "verb", [("ask", "why?", "--documents", "."), ("ingest", ".")], ids=lambda v: v[0]
)
def test_its_verbs_say_what_to_install(site: Site, verb: tuple[str, ...]) -> None:
    """
    In one sentence, with exit code 2.
    """
    run = "from outlast.__main__ import main; main()"
    said = python(site, "-c", WITHOUT + run, *verb)
    assert said.returncode == 2
    assert said.stderr.startswith("error: ")
    assert said.stderr.endswith("pip install 'outlast[crew]'\n")
    assert len(said.stderr.splitlines()) == 1


def starter(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    return python(site, "-m", "outlast", *words)


def test_verbs_of_a_package_join_ours_and_take_no_place(site: Site) -> None:
    """
    `ask` comes in the same way; a broken package is a warning.
    """
    site.install(COMMANDS_GROUP, "added_by_theirs:app", "added_by_theirs:nothing")
    said = starter(site, "hello")
    assert said.stdout == "hello from a package\n"
    (warning,) = said.stderr.splitlines()
    assert warning.startswith("warning: outlast.commands e1 (added_by_theirs:nothing)")
    assert said.returncode == 0
    assert "not this one" not in starter(site, "list").stdout
    assert "  ask " in starter(site, "--help").stdout
